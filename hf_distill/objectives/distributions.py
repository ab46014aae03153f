"""What the logit objectives share: the temperature, its arg-max limit, and divergences and mixtures in log space.

Shape legend: R rows, V vocabulary or classes. p is the teacher, q the student.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_distill.objectives.base import CLASS_HEADS, OBJECTIVES, Objective
from hf_distill.reading.signals import Head, Signals, at_least_float32

ARGMAX_BELOW = 1e-3
"""A teacher temperature under this is its limit, the arg-max: dividing by it would overflow half precision."""


def kl_divergence(log_p_RV: Tensor, log_q_RV: Tensor) -> Tensor:
    """Return KL(p ‖ q) of each row in nats, from log-probabilities; an outcome with p = 0 adds nothing.

    Gradients reach both arguments and are 0, not NaN, where p = 0. Where p > 0 meets q = 0 it is infinite.

    Shapes: (R, V), (R, V) -> (R,).
    """
    p_RV = log_p_RV.exp()
    # The difference is masked, not the product: the gradient of p is the difference, and -inf - (-inf) is NaN.
    return (p_RV * (log_p_RV - log_q_RV).masked_fill_(p_RV == 0, 0.0)).sum(-1)


def log_mixture(log_p_RV: Tensor, log_q_RV: Tensor, weight: float) -> Tensor:
    """Return log(weight · p + (1 − weight) · q) from log-probabilities, for 0 < weight < 1.

    Shapes: (R, V), (R, V) -> (R, V).
    """
    # The gradient of logaddexp is NaN where both are -inf; with one of them finite it is 0.
    floor = torch.finfo(log_p_RV.dtype).min / 2
    return torch.logaddexp(log_p_RV.clamp(min=floor).add_(math.log(weight)), log_q_RV + math.log1p(-weight))


def log_sum_exp(logits_RV: Tensor) -> Tensor:
    """Return log Σ exp of each row; a row without a finite logit gives a very low number with gradient 0, not NaN.

    Shapes: (R, V) -> (R, 1).
    """
    limits = torch.finfo(logits_RV.dtype)
    peak_R1 = logits_RV.detach().amax(-1, keepdim=True).clamp(min=limits.min)
    return (logits_RV - peak_R1).exp().sum(-1, keepdim=True).clamp(min=limits.tiny).log() + peak_R1


def argmax_logits(logits_RV: Tensor) -> Tensor:
    """Return the log-probabilities of the arg-max: 0 at each row's largest logit, −inf elsewhere.

    Shapes: (R, V) -> (R, V).
    """
    return torch.full_like(logits_RV, -math.inf).scatter_(-1, logits_RV.argmax(-1, keepdim=True), 0.0)


@dataclass(frozen=True)
class TemperedLogits:
    """One side's logits and the temperature that divides them, turned to float32 only when read.

    Nothing is kept, so that a half-precision model's logits are not held a second time in float32.

    Shapes: `raw_RV` (R, V).
    """

    raw_RV: Tensor
    temperature: float = 1.0

    def logits(self) -> Tensor:
        """Return the logits divided by the temperature, in float32 (float64 stays)."""
        logits_RV = at_least_float32(self.raw_RV)
        return logits_RV if self.temperature == 1.0 else logits_RV / self.temperature

    def log_probabilities(self) -> Tensor:
        """Return log softmax(z / τ)."""
        return F.log_softmax(self.logits(), dim=-1)

    def probabilities(self) -> Tensor:
        """Return softmax(z / τ)."""
        return F.softmax(self.logits(), dim=-1)


@dataclass(frozen=True, kw_only=True)
class TemperedObjective(Objective):
    """A comparison of the teacher's with the student's distribution at a temperature τ.

    Two conventions of temperature:

    * `temperature_on: teacher`: p = softmax(z_T / τ), q = softmax(z_S), no factor. Below 1e-3 the teacher is taken as
      its arg-max, where that can be compared with.
    * `temperature_on: both`: p = softmax(z_T / τ), q = softmax(z_S / τ), times τ² so that the gradient keeps its size
      (Hinton et al., 2015). Below 1e-3 it is refused: τ² removes the gradient.

    The teacher gets no gradient.
    """

    heads: ClassVar[frozenset[Head]] = CLASS_HEADS
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.logits"})

    temperature_on: Literal["teacher", "both"] = field(
        default="teacher", metadata={"help": "whose logits the temperature divides"}
    )

    @abstractmethod
    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return the unreduced comparison of each row at the sides' own temperatures; `signals` has the labels.

        Shapes: returns (R,).
        """

    @abstractmethod
    def notation(self, teacher: str, student: str) -> str:
        """Return the comparison as short text, given how teacher and student are written."""

    @property
    def argmax_refusal(self) -> str | None:
        """Why the teacher's arg-max cannot be compared with; None where it can."""
        return None

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the comparison of each row.

        Raises:
            ValueError: The temperature is below 1e-3 and the objective has no limit there.
        """
        student_RV, teacher_RV = signals.pair()
        teacher_RV = teacher_RV.detach()
        if temperature < ARGMAX_BELOW:
            self._check_limit(temperature)
            return self.compare(TemperedLogits(argmax_logits(teacher_RV)), TemperedLogits(student_RV), signals)
        teacher = TemperedLogits(teacher_RV, temperature)
        if self.temperature_on == "both":
            return temperature**2 * self.compare(teacher, TemperedLogits(student_RV, temperature), signals)
        return self.compare(teacher, TemperedLogits(student_RV), signals)

    def _check_limit(self, temperature: float) -> None:
        name = OBJECTIVES.name_of(type(self))
        if self.temperature_on == "both":
            raise ValueError(
                f"{name} with temperature_on: both has no limit at temperature {temperature:g} (the factor τ² "
                f"removes the gradient); use a temperature ≥ {ARGMAX_BELOW:g} or temperature_on: teacher"
            )
        if self.argmax_refusal is not None:
            raise ValueError(
                f"{name} has no limit at temperature {temperature:g}: {self.argmax_refusal}; give this term a "
                f"temperature ≥ {ARGMAX_BELOW:g}, or use forward_kl, which learns from the teacher's arg-max"
            )

    def formula(self) -> str:
        """Return the comparison with its temperatures."""
        if self.temperature_on == "both":
            return f"τ²·{self.notation('teacher/τ', 'student/τ')}"
        return self.notation("teacher/τ", "student")
