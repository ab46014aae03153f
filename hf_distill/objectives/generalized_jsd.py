"""Generalized Jensen-Shannon divergence between teacher and student, as in GKD."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import TemperedLogits, TemperedObjective, kl_divergence, log_mixture
from hf_distill.reading.signals import Signals


@OBJECTIVES.register("generalized_jsd")
@dataclass(frozen=True, kw_only=True)
class GeneralizedJSD(TemperedObjective):
    """β·KL(teacher ‖ m) + (1 − β)·KL(student ‖ m) with m = β·teacher + (1 − β)·student, in nats.

    β belongs to the teacher, in the mixture and in front of its divergence. The two ends are special cases:

    * β = 0 is KL(teacher ‖ student), `forward_kl`; 0 < β < ½ behaves like it: mass-covering;
    * β = ½ is the Jensen-Shannon divergence, symmetric and at most log 2;
    * β = 1 is KL(student ‖ teacher), `reverse_kl`; ½ < β < 1 behaves like it: mode-seeking.

    The trap: the ends are not limits of the inside. For 0 < β < 1 the value is at most the entropy of (β, 1 − β) and
    goes to 0 at both ends; it is D/β that goes to the forward and D/(1 − β) that goes to the reverse KL. When you
    compare values of β, give the term the weight 1/β or 1/(1 − β), or you compare learning rates.

    Prefer it to the KLs where teacher and student may disagree completely: inside, value and gradient stay bounded
    and logits of −inf are harmless. GKD reports 0.1 for translation and 0.9 for summarisation.

    Temperature: `temperature_on` as for `forward_kl` (default `teacher`); `both` divides both logits as trl does, but
    multiplies by τ², which trl does not. The arg-max limit exists for β < 1.

    Shapes: student and teacher logits (R, V) -> (R,).
    Raises: ValueError for β outside [0, 1], and at a temperature below 1e-3 with β = 1.
    Source: GKD, Agarwal et al. 2024 (arXiv 2306.13649), equation 1 and its special cases; default β as in trl.
    """

    papers: ClassVar[tuple[str, ...]] = ("2306.13649",)

    beta: float = field(default=0.5, metadata={"help": "the teacher's share: 0 forward KL, ½ JSD, 1 reverse KL"})

    def __post_init__(self) -> None:
        if not 0.0 <= self.beta <= 1.0:
            raise ValueError(f"beta must lie in [0, 1] (0 is forward_kl, 1 is reverse_kl), got {self.beta:g}")

    @property
    def argmax_refusal(self) -> str | None:
        """At β = 1 it is infinite."""
        return "with beta: 1, KL(student ‖ arg-max) is infinite" if self.beta == 1.0 else None

    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return the divergence of each row."""
        log_p_RV, log_q_RV = teacher.log_probabilities(), student.log_probabilities()
        if self.beta == 0.0:
            return kl_divergence(log_p_RV, log_q_RV)
        if self.beta == 1.0:
            return kl_divergence(log_q_RV, log_p_RV)
        # No graph through m: Σ (β·p + (1−β)·q)·∂log m = Σ ∂m = (1−β)·Σ ∂q = 0, because q sums to one.
        with torch.no_grad():
            log_m_RV = log_mixture(log_p_RV, log_q_RV, self.beta)
            teacher_part_R = kl_divergence(log_p_RV, log_m_RV)
        return self.beta * teacher_part_R + (1.0 - self.beta) * kl_divergence(log_q_RV, log_m_RV)

    def notation(self, teacher: str, student: str) -> str:
        """Return the divergence as text."""
        return f"JSD(β={self.beta:g}; {teacher}, {student})"
