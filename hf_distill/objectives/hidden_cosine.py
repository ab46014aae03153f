"""Cosine distance between hidden states."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor
from transformers import PreTrainedConfig

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.features import (
    PROJECTOR_HELP,
    FeatureObjective,
    Projector,
    check_equal_widths,
    check_same_shape,
    unit_vectors,
)
from hf_distill.reading.signals import Signals


@OBJECTIVES.register("hidden_cosine")
@dataclass(frozen=True, kw_only=True)
class HiddenCosine(FeatureObjective):
    """1 − cos(W·s + b, t) of each attended position: the direction of the hidden states, in [0, 2].

    With `projector: none` W is the identity. It ignores the states' lengths, which a few dimensions of pretrained
    transformers dominate, and needs no choice of scale; `hidden_mse` also matches the lengths. A state of length 0
    has distance 1.

    Shapes: student and teacher hidden states (N, D) -> (N,), one value an attended token; mean over pairs of layers.
    Raises: ValueError where widths differ and there is no projector.
    Source: DistilBERT's cosine term (arXiv 1910.01108). Deviation: DistilBERT takes the last layer only.
    """

    papers: ClassVar[tuple[str, ...]] = ("1910.01108",)

    projector: Projector = field(default="none", metadata={"help": PROJECTOR_HELP})

    @property
    def projects(self) -> bool:
        """Whether the student's states are mapped to the teacher's width."""
        return self.projector == "linear"

    def check_layers(
        self, student: PreTrainedConfig, teacher: PreTrainedConfig, pairs: Sequence[tuple[int, int]]
    ) -> None:
        """Refuse different widths without a projector."""
        check_equal_widths(self, student, teacher, pairs)

    def per_pair(self, signals: Signals) -> list[Tensor]:
        """Return the cosine distance of each position.

        Raises:
            ValueError: The shapes differ.
        """
        return [_distance(student_ND, teacher_ND) for student_ND, teacher_ND in signals.hidden_rows()]

    def formula(self) -> str:
        """Return the name with the layers."""
        return self._text("1−cos(hidden")


def _distance(student_ND: Tensor, teacher_ND: Tensor) -> Tensor:
    check_same_shape(student_ND, teacher_ND)
    return 1.0 - (unit_vectors(student_ND) * unit_vectors(teacher_ND)).sum(-1)
