"""Skew forward Kullback-Leibler divergence, as in DistiLLM."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import TemperedLogits, TemperedObjective, kl_divergence, log_mixture
from hf_distill.reading.signals import Signals


def check_skew(alpha: float) -> None:
    """Refuse a share of the mixture that leaves nothing to learn.

    Raises:
        ValueError: α outside [0, 1).
    """
    if not 0.0 <= alpha < 1.0:
        raise ValueError(f"alpha must lie in [0, 1) (0: the plain divergence, 1: nothing to learn), got {alpha:g}")


@OBJECTIVES.register("skew_kl")
@dataclass(frozen=True, kw_only=True)
class SkewKL(TemperedObjective):
    """KL(teacher ‖ α·teacher + (1 − α)·student), in nats: the forward KL kept finite by a share of the teacher.

    At most −log α, with bounded gradients, also where the student gives no mass to what the teacher finds likely;
    α = 0 is `forward_kl`. Prefer it to `forward_kl` when the student starts far away from the teacher (without
    fine-tuning of its own, on teacher-written text) and single tokens dominate the gradient. Values of α are not
    comparable: a larger α shrinks the divergence, see the bound.

    Temperature: `temperature_on` as for `forward_kl` (default `teacher`; DistiLLM has no temperature). The arg-max
    limit is −log(α + (1 − α)·q(arg-max)).

    Shapes: student and teacher logits (R, V) -> (R,).
    Raises: ValueError for α outside [0, 1).
    Source: DistiLLM, Ko et al. 2024 (arXiv 2402.03898), and its default α = 0.1. Its code logs the cross-entropy with
        the mixture, larger by the teacher's entropy and with the same gradient; this is the divergence. The mixture is
        formed in log space, theirs in probabilities.
    """

    papers: ClassVar[tuple[str, ...]] = ("2402.03898",)

    alpha: float = field(default=0.1, metadata={"help": "the teacher's share in the mixture, in [0, 1)"})

    def __post_init__(self) -> None:
        check_skew(self.alpha)

    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return the divergence of each row."""
        log_p_RV, log_q_RV = teacher.log_probabilities(), student.log_probabilities()
        if self.alpha == 0.0:
            return kl_divergence(log_p_RV, log_q_RV)
        return kl_divergence(log_p_RV, log_mixture(log_p_RV, log_q_RV, self.alpha))

    def notation(self, teacher: str, student: str) -> str:
        """Return the divergence as text."""
        return f"KL({teacher} ‖ {self.alpha:g}·{teacher} + {1 - self.alpha:g}·{student})"
