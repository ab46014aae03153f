"""Curriculum extraction: from the finished teacher alone, layer by layer, then its logits (2503.17494)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

from transformers import PreTrainedConfig

from hf_distill.curricula.base import CURRICULA, Curriculum
from hf_distill.curricula.one_shot import final_stage
from hf_distill.curricula.plan import Plan, PlanContext, Stage, Term
from hf_distill.objectives import HiddenMSE
from hf_distill.reading.extractor import Extractor, LayerPair, uniform_map
from hf_distill.reading.layers import hidden_width, layer_count
from hf_distill.schedules import Constant


@CURRICULA.register("extraction")
@dataclass(frozen=True, kw_only=True)
class Extraction(Curriculum):
    """Stages on random projections of the final teacher's hidden layers, shallow to deep, then its logits.

    A stage on layer l runs only the first layers of both models. Source: Gupta and Karmalkar 2025 (arXiv 2503.17494);
    dimensions, scaling, read-out, stage lengths and layer map are our instantiation, because the paper's are not known
    to us: many dimensions (one scalar projection fails on parity), standardised, a learned read-out at ten times the
    student's rate, a quarter of the run for all layers together. So is `layers: cka`, where each student layer goes
    with the teacher's layer of the highest linear CKA on calibration examples before training, without going back
    (see `analysis.layer_similarity`): it is meant for students that start from trained weights, since the layers of a
    fresh one all resemble the teacher's first. The common fields (objectives, temperature, label_mix) are for the
    final stage.
    """

    papers: ClassVar[tuple[str, ...]] = ("2503.17494",)

    steps: int | None = field(default=None, metadata={"help": "optimizer steps of each layer's stage"})
    share: float | None = field(default=None, metadata={"help": "share of the run for all layers; default 0.25"})
    layers: list[list[int]] | Literal["uniform", "cka"] = field(
        default="uniform",
        metadata={
            "help": "[student, teacher] layers counted from 1; `uniform`; or `cka`: the most similar before training"
        },
    )
    dimensions: int | None = field(default=None, metadata={"help": "of the projection; default the teacher's width"})
    readout: bool = field(default=True, metadata={"help": "learn a linear read-out of the student's states"})
    readout_rate: float = field(default=10.0, metadata={"help": "learning rate of the read-outs ÷ the student's"})
    projection_seed: int = field(default=0, metadata={"help": "seed of the projections"})
    calibration_examples: int = field(default=1024, metadata={"help": "examples for the targets' mean and deviation"})

    def __post_init__(self) -> None:
        if self.steps is not None and self.share is not None:
            raise ValueError("extraction: give either `steps` (of each layer) or `share` (of the run), not both")
        positive = {"steps": self.steps, "dimensions": self.dimensions, "readout_rate": self.readout_rate}
        for name, number in positive.items():
            if number is not None and number <= 0:
                raise ValueError(f"extraction: `{name}` must be positive, got {number:g}")
        if self.share is not None and not 0.0 < self.share < 1.0:
            raise ValueError(f"extraction: `share` must lie between 0 and 1, got {self.share:g}")
        if self.calibration_examples < 2:
            raise ValueError(f"extraction: `calibration_examples` must be 2 or more, got {self.calibration_examples}")
        if isinstance(self.layers, list) and (not self.layers or any(len(pair) != 2 for pair in self.layers)):
            raise ValueError(f"extraction: `layers` must be [student, teacher] pairs, got {self.layers}")

    @property
    def needs_layer_map(self) -> bool:
        """Whether the layer map must be found by comparing the models on data before planning."""
        return self.layers == "cka"

    def with_layers(self, pairs: Iterable[Iterable[int]]) -> Extraction:
        """Return the curriculum with the layer map that was found."""
        return replace(self, layers=[list(pair) for pair in pairs])

    def layer_pairs(self, student_layers: int, teacher_layers: int) -> list[LayerPair]:
        """Return the layers of the stages in order; until `cka` has been found, as many of the uniform map.

        Raises:
            ValueError: A given layer does not exist.
        """
        if isinstance(self.layers, str):
            return uniform_map(student_layers, teacher_layers)
        pairs = [LayerPair(int(student), int(teacher)) for student, teacher in self.layers]
        for pair in pairs:
            if not (1 <= pair.student <= student_layers and 1 <= pair.teacher <= teacher_layers):
                raise ValueError(
                    f"extraction.layers: {list(pair)} asked for, but the student has layers 1 to {student_layers} and "
                    f"the teacher 1 to {teacher_layers}"
                )
        return pairs

    def build_extractor(self, student: PreTrainedConfig, teacher: PreTrainedConfig) -> Extractor:
        """Return projections and read-outs for two models.

        Raises:
            ValueError: A layer does not exist, or dimensions and read-out contradict each other.
        """
        pairs = self.layer_pairs(layer_count(student), layer_count(teacher))
        return Extractor(
            pairs,
            student_width={pair.student: hidden_width(student, pair.student) for pair in pairs},
            teacher_width={pair.teacher: hidden_width(teacher, pair.teacher) for pair in pairs},
            dimensions=self.dimensions,
            readout=self.readout,
            readout_rate=self.readout_rate,
            calibration_examples=self.calibration_examples,
            seed=self.projection_seed,
        )

    def needs(self, context: PlanContext) -> frozenset[str]:
        """Return what the final stage needs, and hidden states."""
        return super().needs(context) | HiddenMSE.needs

    def plan(self, context: PlanContext) -> Plan:
        """Lay out one stage a layer, then the final one.

        Raises:
            ValueError: A layer does not exist, or the stages do not fit into the run.
        """
        final = final_stage(self, context)
        pairs = self.layer_pairs(context.student_layers, context.teacher_layers)
        share = 0.25 if self.share is None else self.share
        length = self.steps or round(share * context.max_steps / len(pairs))
        if not 0 < length * len(pairs) < context.max_steps:
            raise ValueError(
                f"extraction: {len(pairs)} layers of {length} steps do not fit before the logits in a run of "
                f"{context.max_steps} steps; change `steps`, `share` or max_steps"
            )
        term = Term(name="hidden_mse", objective=HiddenMSE(), weight=Constant(level=1.0))
        stages = [
            Stage(name=f"layer {pair.student} ← {pair.teacher}", terms=(term,), revision=final.revision, layers=pair)
            for pair in pairs
        ]
        return Plan(stages=(*stages, final), switches=[length * (index + 1) for index in range(len(pairs))])
