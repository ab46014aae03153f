"""What the objectives on hidden states and attentions share: which layers, and the checks of two models.

They read the forward that also gives the logits, so that they can stand beside logit objectives in any stage.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from hf_distill.loss.reduction import Unit
from hf_distill.objectives.base import OBJECTIVES, Objective
from hf_distill.reading.layers import hidden_width
from hf_distill.reading.signals import Signals, at_least_float32

LayerMap = Literal["last", "uniform"] | list[list[int]]
Projector = Literal["none", "linear"]

LAYERS_HELP = "`last`, `uniform`, or [student, teacher] pairs of layers counted from 1"
PROJECTOR_HELP = "`linear`: learn a map from the student's width to the teacher's; `none`: widths must be equal"


@dataclass(frozen=True, kw_only=True)
class FeatureObjective(Objective):
    """A comparison of mapped layers of student and teacher: the mean over the pairs of layers.

    Of an image, whose layers differ in their numbers of positions, the value is the mean over its positions.
    The mean keeps a term's weight independent of the number of pairs; give each pair a term of its own (with a
    `label`) to weigh them apart. A layer's output is what it hands to the next one, before any final norm. The
    curriculum's temperature is about logits and changes nothing here.
    """

    unit: ClassVar[Unit] = "token"
    needs: ClassVar[frozenset[str]] = frozenset({"student.hidden_states", "teacher.hidden_states"})

    layers: LayerMap = field(default="last", metadata={"help": LAYERS_HELP})

    @abstractmethod
    def per_pair(self, signals: Signals) -> list[Tensor]:
        """Return the unreduced values of each pair of layers.

        Shapes: returns (items,) for each pair.
        """

    def check_models(self, student: PreTrainedConfig, teacher: PreTrainedConfig) -> None:
        """Refuse two models that cannot be compared.

        Raises:
            ValueError: They cannot; the message says what to change.
        """

    def check_layers(
        self, student: PreTrainedConfig, teacher: PreTrainedConfig, pairs: Sequence[tuple[int, int]]
    ) -> None:
        """Refuse layers that cannot be compared.

        Args:
            student: The student's configuration.
            teacher: The teacher's.
            pairs: Student and teacher layers, counted from 1.

        Raises:
            ValueError: They cannot; the message says what to change.
        """

    @property
    def projects(self) -> bool:
        """Whether the student's states are mapped to the teacher's width by a learned projector."""
        return False

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the mean over the pairs of layers."""
        # Products of states in half precision, as autocast would take them, are too coarse for these differences.
        with torch.autocast(signals.device.type, enabled=False):
            values = self.per_pair(signals)
            if signals.examples is not None:
                values = [value.unflatten(0, (signals.examples, -1)).mean(1) for value in values]
            return torch.stack(values).mean(0)

    def _text(self, name: str) -> str:
        where = "" if self.layers == "last" else f", {self.layers}"
        return f"{name}{where})"


def check_equal_widths(
    objective: FeatureObjective,
    student: PreTrainedConfig,
    teacher: PreTrainedConfig,
    pairs: Sequence[tuple[int, int]],
) -> None:
    """Refuse layers of different widths, unless a projector stands between them.

    Raises:
        ValueError: Widths differ and there is no projector.
    """
    for ours, theirs in pairs:
        widths = hidden_width(student, ours), hidden_width(teacher, theirs)
        if not objective.projects and widths[0] != widths[1]:
            raise ValueError(
                f"{OBJECTIVES.name_of(type(objective))} compares hidden states position by position, but in layers "
                f"{[ours, theirs]} the student's have width {widths[0]} and the teacher's {widths[1]}; set "
                "`projector: linear`, or use relation_kl or similarity_preserving, which need no equal widths"
            )


def check_same_shape(student: Tensor, teacher: Tensor) -> None:
    """Refuse states that would be broadcast against each other.

    Raises:
        ValueError: The shapes differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"the student's hidden states have shape {tuple(student.shape)} and the teacher's "
            f"{tuple(teacher.shape)}; project them to one width, and compare layers with the same positions (tokenize "
            "both inputs alike; choose stages of one size)"
        )


def unit_vectors(states: Tensor) -> Tensor:
    """Return states divided by their lengths in float32 (float64 stays); one of length 0 stays 0.

    Shapes: (..., D) -> (..., D).
    """
    states = at_least_float32(states)
    lengths = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    return states / lengths.masked_fill(lengths == 0, 1.0)
