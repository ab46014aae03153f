"""Jeffreys divergence: forward plus reverse Kullback-Leibler divergence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import TemperedLogits, TemperedObjective
from hf_distill.reading.signals import Signals


@OBJECTIVES.register("symmetric_kl")
@dataclass(frozen=True, kw_only=True)
class SymmetricKL(TemperedObjective):
    """KL(teacher ‖ student) + KL(student ‖ teacher) = Σ (p − q)(log p − log q), in nats: the Jeffreys divergence.

    Use it where the student should neither miss what the teacher finds likely nor invent what it finds unlikely. It
    punishes both without bound and is infinite where exactly one of the two logits is −inf; `generalized_jsd` is the
    bounded way to weigh both directions. It is the sum, not the mean: R-Drop's term is ½ of it. Other shares
    (DistiLLM's 0.1 forward and 0.9 reverse) are two terms, `forward_kl` and `reverse_kl`, with weights.

    Temperature: `temperature_on` as for `forward_kl` (default `teacher`). It has no arg-max limit, as `reverse_kl`.

    Shapes: student and teacher logits (R, V) -> (R,).
    Raises: ValueError at a temperature below 1e-3.
    Source: Jeffreys 1946, "An invariant form for the prior probability in estimation problems"; as a training term
        R-Drop, Liang et al. 2021 (arXiv 2106.14448).
    """

    papers: ClassVar[tuple[str, ...]] = ("2106.14448",)

    @property
    def argmax_refusal(self) -> str | None:
        """Its reverse half is infinite."""
        return "KL(student ‖ arg-max) is infinite"

    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return Σ (p − q)(log p − log q) of each row: a sum of terms ≥ 0, so nothing cancels."""
        log_p_RV, log_q_RV = teacher.log_probabilities(), student.log_probabilities()
        gap_RV = log_p_RV.exp() - log_q_RV.exp()
        # Where p = q there is neither value nor gradient, but where both are 0 the logarithms may differ by NaN.
        return (gap_RV * (log_p_RV - log_q_RV).masked_fill_(gap_RV == 0, 0.0)).sum(-1)

    def notation(self, teacher: str, student: str) -> str:
        """Return the divergence as text."""
        return f"J({teacher}, {student})"
