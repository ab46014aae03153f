"""The layers that a curriculum's terms compare, and the projectors that are learned between them.

A projector maps a student layer's states to the teacher's width. Projectors are trained beside the student, saved in
its checkpoints and absent from what is exported (`readout_training.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedConfig

from hf_distill.curricula.plan import Term
from hf_distill.models.checkpointed_module import CheckpointedModule
from hf_distill.objectives.features import FeatureObjective, LayerMap
from hf_distill.reading.extractor import LayerPair, linear_map, uniform_map
from hf_distill.reading.layer_states import AttentionRows, LayerStates
from hf_distill.reading.layers import hidden_width, layer_count
from hf_distill.reading.model_reading import Wanted
from hf_distill.reading.signals import Signals

SEED = 0
"""Of the projectors' first weights: the same on every rank, whatever the run's seed."""


class Features(CheckpointedModule):
    """What each term compares; its parameters are the projectors'.

    Args:
        terms: Of the stages with a teacher; those that compare logits are passed over.
        student: The student's configuration.
        teacher: The teacher's.

    Raises:
        ValueError: A layer does not exist, or an objective cannot compare these two models.
    """

    file_name: ClassVar[str] = "projectors.safetensors"
    what: ClassVar[str] = "projectors"

    def __init__(self, terms: Sequence[Term], *, student: PreTrainedConfig, teacher: PreTrainedConfig) -> None:
        super().__init__()
        self.pairs: dict[str, list[LayerPair]] = {}
        self.projectors = nn.ModuleDict()
        self._keys: dict[tuple[str, LayerPair], str] = {}
        generator = torch.Generator().manual_seed(SEED)
        for index, term in enumerate(terms):
            if not isinstance(term.objective, FeatureObjective):
                continue
            term.objective.check_models(student, teacher)
            self.pairs[term.name] = map_layers(
                term.objective.layers, layer_count(student), layer_count(teacher), what=f"objective {term.name!r}"
            )
            term.objective.check_layers(student, teacher, self.pairs[term.name])
            for pair in self.pairs[term.name] if term.objective.projects else []:
                key = self._keys[term.name, pair] = f"term{index}_{pair.key}"
                widths = hidden_width(student, pair.student), hidden_width(teacher, pair.teacher)
                self.projectors[key] = linear_map(*widths, generator)

    def wanted(self, terms: Sequence[Term]) -> Wanted:
        """Return what a forward must give for these terms: no layer and no attention that none of them compares."""
        named = [term for term in terms if term.name in self.pairs]
        states = [term for term in named if "student.hidden_states" in term.objective.needs]
        pairs = [pair for term in states for pair in self.pairs[term.name]]
        return Wanted(
            student=tuple(sorted({pair.student for pair in pairs})),
            teacher=tuple(sorted({pair.teacher for pair in pairs})),
            attentions=any("student.attentions" in term.objective.needs for term in named),
        )

    def view(self, signals: Signals, term: Term) -> Signals:
        """Return the signals with the layers that a term compares."""
        if signals.captured is None or term.name not in self.pairs:
            return signals
        student, teacher, mask = signals.captured
        pairs = self.pairs[term.name]
        if "student.attentions" in term.objective.needs:
            attentions = [(student.attentions[s - 1], teacher.attentions[t - 1]) for s, t in pairs]
            return replace(signals, attentions=tuple(AttentionRows.of(*both, mask) for both in attentions))
        layers = [
            LayerStates.of(
                student.hidden[pair.student],
                teacher.hidden[pair.teacher],
                mask,
                project=self._projector(term.name, pair),
            )
            for pair in pairs
        ]
        return replace(signals, layers=tuple(layers))

    def _projector(self, name: str, pair: LayerPair) -> Callable[[Tensor], Tensor] | None:
        key = self._keys.get((name, pair))
        if key is None:
            return None
        projector = self.projectors[key]
        # The projector is in float32 whatever the student is in.
        return lambda states: projector(states.float())


def build_features(
    terms: Sequence[Term], student: PreTrainedConfig, teacher: PreTrainedConfig, accelerator: Accelerator
) -> Features | None:
    """Return what the terms compare, on the accelerator's device; None where all compare logits.

    Raises:
        ValueError: As in `Features`.
    """
    features = Features(terms, student=student, teacher=teacher)
    if not features.pairs:
        return None
    return features.to(accelerator.device)


def map_layers(layers: LayerMap, student_layers: int, teacher_layers: int, *, what: str) -> list[LayerPair]:
    """Return the pairs of layers that `last`, `uniform` or a list stand for, counted from 1.

    Raises:
        ValueError: The list is empty, is not of pairs, repeats one or names a layer that does not exist.
    """
    if layers == "last":
        return [LayerPair(student_layers, teacher_layers)]
    if isinstance(layers, str):
        return uniform_map(student_layers, teacher_layers)
    pairs = [LayerPair(*pair) for pair in layers if len(pair) == 2]
    exist = all(1 <= pair.student <= student_layers and 1 <= pair.teacher <= teacher_layers for pair in pairs)
    if not pairs or len(pairs) != len(layers) or len(set(pairs)) != len(pairs) or not exist:
        raise ValueError(
            f"{what}: `layers` must be `last`, `uniform` or distinct [student, teacher] pairs with student layers 1 "
            f"to {student_layers} and teacher layers 1 to {teacher_layers}, got {layers}"
        )
    return pairs
