"""Forward Kullback-Leibler divergence KL(teacher ‖ student)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch.nn.functional as F
from torch import Tensor

from hf_distill.objectives.base import CLASS_HEADS, OBJECTIVES, Objective
from hf_distill.signals import Head, Signals, at_least_float32

ARGMAX_BELOW = 1e-3
"""A teacher temperature under this is its limit, the arg-max: dividing by it would overflow half precision."""


def kl_divergence(log_p_RV: Tensor, log_q_RV: Tensor) -> Tensor:
    """Return KL(p ‖ q) of each row in nats, from log-probabilities; an outcome with p = 0 adds nothing.

    Shapes: (R, V), (R, V) -> (R,).
    """
    p_RV = log_p_RV.exp()
    return (p_RV * (log_p_RV - log_q_RV)).masked_fill(p_RV == 0, 0.0).sum(-1)


@OBJECTIVES.register("forward_kl")
@dataclass(frozen=True, kw_only=True)
class ForwardKL(Objective):
    """KL(teacher ‖ student) over the vocabulary or the classes, in nats: mass-covering, 0 when the student agrees.

    Two conventions of temperature τ:

    * `temperature_on: teacher` (default): p = softmax(z_T / τ), q = softmax(z_S), no factor. τ → 0 is the teacher's
      arg-max, and the value is then the cross-entropy with it. This is what progressive distillation uses.
    * `temperature_on: both`: p = softmax(z_T / τ), q = softmax(z_S / τ), times τ² so that the gradient keeps its size
      (Hinton et al., 2015). τ → 0 has no useful limit there and is refused.

    It is the divergence itself: a cross-entropy with the teacher's probabilities (called "forward KL" elsewhere) is
    larger by the teacher's entropy and has the same gradient.

    Shapes: student and teacher logits (R, V) -> (R,).
    Raises: ValueError where `both` meets a temperature below 1e-3.
    Source: Hinton et al. 2015 (arXiv 1503.02531); Panigrahi et al. 2024 (arXiv 2410.05464).
    """

    heads: ClassVar[frozenset[Head]] = CLASS_HEADS
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.logits"})

    temperature_on: Literal["teacher", "both"] = field(
        default="teacher", metadata={"help": "whose logits the temperature divides"}
    )

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the divergence of each row."""
        student_RV, teacher_RV = (at_least_float32(logits) for logits in signals.pair())
        if temperature < ARGMAX_BELOW:
            if self.temperature_on == "both":
                raise ValueError(
                    f"forward_kl with temperature_on: both has no limit at temperature {temperature:g} (the factor τ² "
                    f"removes the gradient); use a temperature ≥ {ARGMAX_BELOW:g} or temperature_on: teacher"
                )
            return F.cross_entropy(student_RV, teacher_RV.argmax(-1), reduction="none")
        log_p_RV = F.log_softmax(teacher_RV / temperature, dim=-1)
        if self.temperature_on == "both":
            return temperature**2 * kl_divergence(log_p_RV, F.log_softmax(student_RV / temperature, dim=-1))
        return kl_divergence(log_p_RV, F.log_softmax(student_RV, dim=-1))

    def formula(self) -> str:
        """Return the divergence with its temperatures."""
        return "τ²·KL(teacher/τ ‖ student/τ)" if self.temperature_on == "both" else "KL(teacher/τ ‖ student)"
