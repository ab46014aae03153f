"""Annealing-KD and Continuation-KD: from an easy, shrunken teacher to the labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from hf_distill.curricula.base import CURRICULA, BestOfStage, Curriculum, label_terms, stage_length
from hf_distill.curricula.one_shot import final_stage
from hf_distill.curricula.plan import Plan, PlanContext, Stage, Term
from hf_distill.objectives import MarginMSE
from hf_distill.schedules import AnnealingTemperature, Constant, ContinuationWeight


def refuse_common_fields(curriculum: Curriculum, *, name: str) -> None:
    """Refuse the fields of `Curriculum` that this curriculum decides itself.

    Raises:
        ValueError: One of them is given.
    """
    given = {"objectives": curriculum.objectives is not None, "temperature": curriculum.temperature != 1.0}
    given["label_mix"] = curriculum.label_mix != 0.0
    for field_name, is_given in given.items():
        if is_given:
            raise ValueError(
                f"{name} decides its terms itself and takes no `{field_name}`; use one_shot to mix your own"
            )


@CURRICULA.register("annealing")
@dataclass(frozen=True, kw_only=True)
class Annealing(Curriculum):
    """Phase I: squared error with φ·teacher logits, φ rising from 1/τ_max to 1 in equal steps. Phase II: labels.

    Phase II starts from the student that was best on held-out data in phase I, with a new optimizer and a new
    learning-rate schedule. Source: Jafari et al. 2021 (arXiv 2104.07163); GLUE τ_max = 7 with 14 + 4 epochs, CIFAR
    τ_max = 10. The step-wise φ over optimizer steps generalises the papers' epochs.
    """

    papers: ClassVar[tuple[str, ...]] = ("2104.07163",)

    tau_max: int = field(default=7, metadata={"help": "how many values φ takes"})
    share: float | None = field(default=None, metadata={"help": "share of the run for phase I; default 14/18"})
    steps: int | None = field(default=None, metadata={"help": "optimizer steps of phase I"})
    epochs: int | None = field(default=None, metadata={"help": "follow the published trace of φ over so many epochs"})
    metric: str = field(default="loss", metadata={"help": "held-out metric that picks the best of phase I"})
    greater_is_better: bool | None = field(
        default=None, metadata={"help": "whether a larger `metric` is better; default: unless its name ends in loss"}
    )

    def __post_init__(self) -> None:
        refuse_common_fields(self, name="annealing")

    @property
    def needs_evaluation(self) -> bool:
        """Whether evaluations decide: they pick the best student of phase I."""
        return True

    @property
    def best_of_stage(self) -> BestOfStage:
        """Phase II starts from the best student of phase I."""
        given = self.greater_is_better
        return BestOfStage(self.metric, not self.metric.endswith("loss") if given is None else given)

    def plan(self, context: PlanContext) -> Plan:
        """Lay out the two phases.

        Raises:
            ValueError: Phase I does not fit into the run.
        """
        final = final_stage(self, context)
        share = 14 / 18 if self.share is None and self.steps is None else self.share
        length = stage_length(self.steps, share, context.max_steps, what="annealing")
        temperature = AnnealingTemperature(steps=self.tau_max, epochs=self.epochs, end=length / context.max_steps)
        objective = MarginMSE()
        objective.check_head(context.head, path="annealing")
        term = Term(name="margin_mse", objective=objective, weight=Constant(level=1.0), temperature=temperature)
        first = Stage(name="annealing", terms=(term,), revision=final.revision)
        return Plan(stages=(first, Stage(name="labels", terms=label_terms(context))), switches=[length])


@CURRICULA.register("continuation")
@dataclass(frozen=True, kw_only=True)
class Continuation(Curriculum):
    """ψ(u)·labels + (1 − ψ(u))·max(0, ‖z_S − φ·z_T‖² − m·φ), φ and ψ rising over the run.

    Source: Jafari et al. 2022 (arXiv 2212.05998): T_max = 10 and ψ = 0.75·u up to 2/3 of the run for GLUE, T_max = 20
    and ψ = u/0.75 for CIFAR. The paper does not give m; 1 is a third party's choice and ours. Where 1 − ψ = 0 the
    teacher does not run, so that with the paper's ψ it never teaches at φ = 1; `full_at` = `until` makes it do so
    (our addition). With margin 0 and slope 0 the run is Annealing-KD's without its restart.
    """

    papers: ClassVar[tuple[str, ...]] = ("2212.05998",)

    tau_max: int = field(default=10, metadata={"help": "T_max: how many values φ takes"})
    margin: float = field(default=1.0, metadata={"help": "m"})
    over_classes: Literal["mean", "sum"] = field(default="mean", metadata={"help": "what ‖·‖² does over classes"})
    slope: float = field(default=0.75, metadata={"help": "rise of ψ over the run"})
    until: float = field(default=2 / 3, metadata={"help": "share of the run after which only labels count"})
    epochs: int | None = field(default=None, metadata={"help": "follow the published trace of φ over so many epochs"})
    full_at: float = field(default=1.0, metadata={"help": "share of the run over which φ rises to 1"})

    def __post_init__(self) -> None:
        refuse_common_fields(self, name="continuation")

    def plan(self, context: PlanContext) -> Plan:
        """Lay out the one stage."""
        final = final_stage(self, context)
        labels = ContinuationWeight(slope=self.slope, until=self.until)
        objective = MarginMSE(margin=self.margin, over_classes=self.over_classes)
        objective.check_head(context.head, path="continuation")
        teacher = Term(
            name="margin_mse",
            objective=objective,
            weight=Constant(level=1.0),
            temperature=AnnealingTemperature(steps=self.tau_max, epochs=self.epochs, end=self.full_at),
            label_mix=labels,
        )
        terms = (teacher, *label_terms(context, labels))
        return Plan(stages=(Stage(name="continuation", terms=terms, revision=final.revision),))
