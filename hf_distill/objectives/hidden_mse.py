"""Squared error between hidden states."""

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
)
from hf_distill.reading.signals import Signals, at_least_float32


@OBJECTIVES.register("hidden_mse")
@dataclass(frozen=True, kw_only=True)
class HiddenMSE(FeatureObjective):
    """(1/D) Σ_d (W·s + b − t)_d² of each attended position: the student's hidden state against the teacher's.

    With `projector: none` W is the identity. The unit is that of the teacher's states squared: look at the logged
    part before choosing a weight. In the stages of `extraction` the two sides are the student's read-out and the
    standardised random projection; standardised targets have unit deviation, so that 1 is what predicting their mean
    gives.

    Shapes: student and teacher hidden states (N, D) -> (N,), one value an attended token; mean over pairs of layers.
    Raises: ValueError where widths differ and there is no projector.
    Source: FitNets' hints (arXiv 1412.6550), TinyBERT's hidden term (arXiv 1909.10351); curriculum extraction (arXiv
    2503.17494), our instantiation. Deviation: mean over layers and a bias in the projector, where TinyBERT sums over
    layers and shares one map without bias among them; here each pair has its own.
    """

    papers: ClassVar[tuple[str, ...]] = ("1412.6550", "1909.10351")

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
        """Return the squared error of each position.

        Raises:
            ValueError: The shapes differ; they would be broadcast.
        """
        return [_squared_error(student_ND, teacher_ND) for student_ND, teacher_ND in signals.hidden_rows()]

    def formula(self) -> str:
        """Return the name with the layers."""
        return self._text("MSE(hidden")


def _squared_error(student_ND: Tensor, teacher_ND: Tensor) -> Tensor:
    check_same_shape(student_ND, teacher_ND)
    return (at_least_float32(student_ND) - at_least_float32(teacher_ND)).square().mean(-1)
