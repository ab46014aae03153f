"""Skew reverse Kullback-Leibler divergence, as in DistiLLM and DistiLLM-2."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import TemperedLogits, TemperedObjective, kl_divergence, log_mixture
from hf_distill.objectives.skew_kl import check_skew
from hf_distill.reading.signals import Signals


@OBJECTIVES.register("skew_reverse_kl")
@dataclass(frozen=True, kw_only=True)
class SkewReverseKL(TemperedObjective):
    """KL(student ‖ (1 − α)·teacher + α·student), in nats: the reverse KL kept finite by a share of the student.

    At most −log α, also where the teacher rules out what the student finds likely; α = 0 is `reverse_kl`. Prefer it to
    `reverse_kl` on text that the student wrote, whose tokens the teacher may find next to impossible: DistiLLM uses it
    for most of its students. Values of α are not comparable: a larger α shrinks the divergence, see the bound.

    `detach_mixture` holds the student's share of the mixture constant in the gradient (same value). Following the
    gradient through it, the default, is DistiLLM; detaching is DistiLLM-2. Detached, it is not the gradient of the
    value: the step on z_v is q_v·(log(q_v/m_v) − value), and a student at its target still has gradient 0.

    Temperature: `temperature_on` as for `forward_kl` (default `teacher`; the papers have no temperature). The arg-max
    limit exists for α > 0.

    Shapes: student and teacher logits (R, V) -> (R,).
    Raises: ValueError for α outside [0, 1), and at a temperature below 1e-3 with α = 0.
    Source: DistiLLM, Ko et al. 2024 (arXiv 2402.03898), and its default α = 0.1; DistiLLM-2, Ko et al. 2025
        (arXiv 2503.07067). The mixture is formed in log space.
    """

    papers: ClassVar[tuple[str, ...]] = ("2402.03898", "2503.07067")

    alpha: float = field(default=0.1, metadata={"help": "the student's share in the mixture, in [0, 1)"})
    detach_mixture: bool = field(
        default=False, metadata={"help": "no gradient through the student's share of the mixture (DistiLLM-2)"}
    )

    def __post_init__(self) -> None:
        check_skew(self.alpha)

    @property
    def argmax_refusal(self) -> str | None:
        """At α = 0 it is infinite."""
        return "with alpha: 0, KL(student ‖ arg-max) is infinite" if self.alpha == 0.0 else None

    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return the divergence of each row."""
        log_p_RV, log_q_RV = teacher.log_probabilities(), student.log_probabilities()
        if self.alpha == 0.0:
            return kl_divergence(log_q_RV, log_p_RV)
        mixed_RV = log_q_RV.detach() if self.detach_mixture else log_q_RV
        return kl_divergence(log_q_RV, log_mixture(log_p_RV, mixed_RV, 1.0 - self.alpha))

    def notation(self, teacher: str, student: str) -> str:
        """Return the divergence as text."""
        mixed = f"sg({student})" if self.detach_mixture else student
        return f"KL({student} ‖ {1 - self.alpha:g}·{teacher} + {self.alpha:g}·{mixed})"
