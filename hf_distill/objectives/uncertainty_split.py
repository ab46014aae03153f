"""Distillation split by the teacher's uncertainty about the label (ATKD)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.decoupled_kd import WITHOUT_OTHERS, decouple
from hf_distill.objectives.distributions import TemperedLogits, TemperedObjective
from hf_distill.reading.signals import Signals


@OBJECTIVES.register("uncertainty_split")
@dataclass(frozen=True, kw_only=True)
class UncertaintySplit(TemperedObjective):
    """Easy tokens learn the other classes only, hard tokens the label's share as well, in nats.

    With u = 1 − p_y, the teacher's mass outside the label, and the parts of `decoupled_kd`, a row is worth

    * 2·α·NCKD where it is easy, u < threshold: the student need not learn by heart what is obvious;
    * 2·(1 − α)·(TCKD + NCKD) where it is hard.

    Use it for language models with a teacher much larger than the student, where plain KL gets worse as the teacher
    grows. For text that the student wrote, the label is the token it wrote.

    Threshold: the paper splits at the median of u over the batch, so that a row's loss depends on the rows beside it,
    on how a batch is split into micro-batches and over processes. The default is our instantiation, a fixed u: every
    row stands alone and the factor 2, which is each group's share under a median, keeps the size. 0.5 says "hard is
    where the teacher gives the label less than half". `threshold: median` is the published split, over the rows of a
    micro-batch on one process, with each group averaged apart; the upper middle value, so that the hard half is never
    the smaller one. All rows alike are hard; an empty group counts 0.

    Temperature: `temperature_on` as for `forward_kl` (default `teacher`; the paper has no temperature, τ = 1). u is
    taken at the teacher's temperature. It has no arg-max limit.

    Shapes: student and teacher logits (R, V), labels (R,) -> (R,).
    Raises: ValueError for α or a threshold outside [0, 1], without labels, and at a temperature below 1e-3.
    Source: ATKD, Zhong et al. 2024 (arXiv 2402.11890), α = 0.2. Its reverse-KL setting is not offered.
    """

    papers: ClassVar[tuple[str, ...]] = ("2402.11890",)
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.logits", "labels"})

    alpha: float = field(default=0.2, metadata={"help": "weight of easy tokens; hard tokens get 1 − alpha"})
    threshold: float | Literal["median"] = field(
        default=0.5, metadata={"help": "a token is hard from this teacher mass outside the label on; or median"}
    )

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise ValueError(f"alpha must lie in [0, 1], got {self.alpha:g}")
        if self.threshold != "median" and not 0.0 <= self.threshold <= 1.0:
            raise ValueError(f"threshold must be a probability in [0, 1] or 'median', got {self.threshold:g}")

    @property
    def partition_invariant(self) -> bool:
        """Only with a fixed threshold: a median is one of the micro-batch's rows."""
        return self.threshold != "median"

    @property
    def argmax_refusal(self) -> str | None:
        """Nothing is left among the other classes."""
        return WITHOUT_OTHERS

    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return the weighted parts of each row."""
        parts = decouple(teacher, student, signals.labelled()[1])
        easy_R = parts.rest_R < self._bound(parts.rest_R)
        share_easy, share_hard = self._shares(easy_R)
        easy, hard = self.alpha * share_easy, (1.0 - self.alpha) * share_hard
        return torch.where(easy_R, easy * parts.others_R, hard * (parts.target_R + parts.others_R))

    def _bound(self, rest_R: Tensor) -> Tensor | float:
        if self.threshold != "median":
            return self.threshold
        return rest_R.sort().values[rest_R.numel() // 2] if rest_R.numel() else 0.0

    def _shares(self, easy_R: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """Return rows ÷ rows of the group, for easy and hard: 2 where the threshold is fixed."""
        if self.threshold != "median":
            return 2.0, 2.0
        rows = easy_R.numel()
        return rows / easy_R.sum().clamp(min=1), rows / (~easy_R).sum().clamp(min=1)

    def notation(self, teacher: str, student: str) -> str:
        """Return the split as text."""
        return f"ATKD(α={self.alpha:g}, u≷{self.threshold}; {teacher} ‖ {student})"
