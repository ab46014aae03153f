"""Squared error between hidden states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES, Objective
from hf_distill.reduction import Unit
from hf_distill.signals import Signals, at_least_float32


@OBJECTIVES.register("hidden_mse")
@dataclass(frozen=True, kw_only=True)
class HiddenMSE(Objective):
    """Squared error of the student's (read-out) hidden state with the teacher's (projected) one, mean over dimensions.

    The unit is that of the target squared; standardised targets have unit deviation, so that 1 is what predicting
    their mean gives.

    Shapes: student and teacher hidden states (N, D) -> (N,), one value an attended token.
    Source: curriculum extraction (arXiv 2503.17494), our instantiation.
    """

    unit: ClassVar[Unit] = "token"
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.hidden_states"})

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the squared error of each position.

        Raises:
            ValueError: The shapes differ; they would be broadcast.
        """
        student_ND, teacher_ND = signals.hidden_pair()
        if student_ND.shape != teacher_ND.shape:
            raise ValueError(
                f"the student's hidden states have shape {tuple(student_ND.shape)} and the teacher's "
                f"{tuple(teacher_ND.shape)}; project them to one width, and tokenize both inputs alike"
            )
        return (at_least_float32(student_ND) - at_least_float32(teacher_ND)).square().mean(-1)

    def formula(self) -> str:
        """Return the name."""
        return "MSE(hidden)"
