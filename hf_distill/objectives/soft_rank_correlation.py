"""Rank correlation between teacher and student with soft ranks, so that it has a gradient; after R2KD."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from hf_distill.objectives.base import FIXED_CLASS_HEADS, OBJECTIVES, Objective
from hf_distill.objectives.distributions import ARGMAX_BELOW
from hf_distill.reading.signals import Head, Signals, at_least_float32


def soft_ranks(scores_RK: Tensor) -> Tensor:
    """Return for each class how many classes are expected to beat it: Σ_j sigmoid(s_j − s_i), in (0, K).

    Scores far apart give the ranks, best first, from ½; equal scores share the mean of their places. −inf is last.

    Shapes: (R, K) -> (R, K), through (R, K, K).
    """
    margins_RKK = scores_RK.unsqueeze(-2) - scores_RK.unsqueeze(-1)
    return margins_RKK.nan_to_num(nan=0.0).sigmoid().sum(-1)


@OBJECTIVES.register("soft_rank_correlation")
@dataclass(frozen=True, kw_only=True)
class SoftRankCorrelation(Objective):
    """1 − ρ, Spearman's rank correlation between the two orders of the teacher's best classes, with soft ranks.

    6 Σ (r_T − r_S)² / (K (K² − 1)), in [0, 2]: 0 the same order, 2 the opposite one. The soft rank of a class is the
    number of classes expected to beat it in pairs, r_i = Σ_j sigmoid((z_j − z_i)/τ), where sigmoid(z_j − z_i) is how
    often class j is drawn when it is j or i.

    The *rank* half of R2KD, beside `logit_cosine`: use it where the order of the unlikely classes carries knowledge
    and the probabilities are too small for a KL to notice. Add it to another term; alone it fixes no probabilities.

    Our instantiation. The paper's released code takes hard ranks, and a sort has no gradient, so that its rank term
    trains nothing. Pairwise soft ranks were chosen because they have a gradient everywhere, also where logits are
    equal; go to the exact ranks, and the value to exactly 1 − ρ, as τ → 0; and need no scale beside the temperature
    (projections onto the permutahedron, Blondel et al. 2020, arXiv 2002.08871, sort faster but bring a solver).
    Spearman's difference form was taken instead of a correlation of soft ranks, which is 0/0 for a student with equal
    logits. Pairs cost K², so K is the number of the teacher's best classes that are ranked, all of them for a small
    head; equal logits at the K-th place are cut as torch.topk cuts them.

    Temperature: divides both logits and sets how sharp ranks are; no τ², as in the paper. Around 1 the classes a few
    nats apart are ordered; at τ → 0 the gradient is gone: a temperature below 1e-3 is refused.

    Shapes: student and teacher logits (R, V) -> (R,). Unit: none (a correlation).
    Raises: ValueError for fewer than 2 classes, and at a temperature below 1e-3.
    Source: R2KD, Kim et al. 2023 (arXiv 2311.13934); soft ranks by pairs as in Qin, Liu and Li 2010, "A general
        approximation framework for direct optimization of information retrieval measures".
    """

    papers: ClassVar[tuple[str, ...]] = ("2311.13934",)
    heads: ClassVar[frozenset[Head]] = FIXED_CLASS_HEADS
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.logits"})

    classes: int = field(default=64, metadata={"help": "how many of the teacher's best classes are ranked, from 2"})

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ValueError(f"classes must be at least 2 for an order to exist, got {self.classes}")

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the rank distance of each row.

        Raises:
            ValueError: The temperature is below 1e-3.
        """
        if temperature < ARGMAX_BELOW:
            raise ValueError(
                f"soft_rank_correlation has no gradient at temperature {temperature:g} (ranks become steps); "
                f"give this term a temperature ≥ {ARGMAX_BELOW:g}, such as 1"
            )
        student_RV, teacher_RV = signals.pair()
        best_RK = teacher_RV.topk(min(self.classes, teacher_RV.shape[-1]), dim=-1).indices
        ranks_T, ranks_S = (
            soft_ranks(at_least_float32(logits_RV.gather(-1, best_RK)) / temperature)
            for logits_RV in (teacher_RV.detach(), student_RV)
        )
        count = best_RK.shape[-1]
        return (ranks_T - ranks_S).square().sum(-1) * (6.0 / (count * (count**2 - 1)))

    def formula(self) -> str:
        """Return the distance with its temperature."""
        return f"(1−ρ(teacher/τ, student/τ; top {self.classes}))"
