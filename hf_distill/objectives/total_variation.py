"""Total variation distance between teacher and student."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import TemperedLogits, TemperedObjective
from hf_distill.reading.signals import Signals


@OBJECTIVES.register("total_variation")
@dataclass(frozen=True, kw_only=True)
class TotalVariation(TemperedObjective):
    """½ Σ |p − q|: the probability that has to be moved to turn the student into the teacher, in [0, 1].

    Use it where single noisy targets must not dominate: every outcome pulls with at most its probability, and 1 minus
    the value is the share of this student's drafts that speculative decoding accepts. The price is a gradient that
    fades where the two put their mass on different tokens, so a KL is the better start. At p = q, where the distance
    has a kink, the gradient is 0.

    Temperature: `temperature_on` as for `forward_kl` (default `teacher`). The arg-max limit is 1 − q(arg-max).

    Shapes: student and teacher logits (R, V) -> (R,). Unit: probability, not nats.
    Source: f-distill, Wen et al. 2023 (arXiv 2307.15190); GKD's and DistiLLM's comparisons (arXiv 2306.13649,
        2402.03898).
    """

    papers: ClassVar[tuple[str, ...]] = ("2307.15190",)

    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return the distance of each row."""
        return 0.5 * (student.probabilities() - teacher.probabilities()).abs().sum(-1)

    def notation(self, teacher: str, student: str) -> str:
        """Return the distance as text."""
        return f"TV({teacher}, {student})"
