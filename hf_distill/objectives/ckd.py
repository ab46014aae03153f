"""Comparative knowledge distillation: how the logits of some items differ from those of others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import TemperedLogits, TemperedObjective, kl_divergence
from hf_distill.reading.signals import Signals


@OBJECTIVES.register("ckd")
@dataclass(frozen=True, kw_only=True)
class CKD(TemperedObjective):
    """τ²·KL(softmax(c_T/τ) ‖ softmax(c_S/τ)) with c = mean logits of a group minus those of another, in nats.

    Row i of a micro-batch is compared through the group of the `positive` rows from i on against that of the
    `negative` rows behind them, around the end to the beginning: every row takes part as often as any other, and a
    teacher that runs once per row gives as many comparisons as rows. A number added to all logits of a row changes
    nothing. The paper's temperature is 4: give the term `temperature: 4`.

    It compares the rows of a micro-batch with each other, so that the batch size and the order of the examples
    matter; with fewer rows than both groups need, rows appear in both and cancel.

    Shapes: student and teacher logits (R, V) -> (R,).
    Raises: ValueError below a temperature of 1e-3, where differences of logits have no useful limit.
    Source: CKD (arXiv 2311.02253), groups of 2 and 1 as in the official code. Our instantiation: neighbours in the
    micro-batch make the groups (the sampler of the official code is not known to us). Deviation: only the part that
    compares with the teacher; the part with the labels is `cross_entropy` beside it.
    """

    papers: ClassVar[tuple[str, ...]] = ("2311.02253",)

    temperature_on: Literal["teacher", "both"] = field(
        default="both", metadata={"help": "whose logits the temperature divides"}
    )
    positive: int = field(default=2, metadata={"help": "rows of the first group"})
    negative: int = field(default=1, metadata={"help": "rows of the second group"})

    def __post_init__(self) -> None:
        if min(self.positive, self.negative) < 1:
            raise ValueError(f"ckd: groups need 1 row or more, got {self.positive} and {self.negative}")

    @property
    def partition_invariant(self) -> bool:
        """It is not: a row is compared with its neighbours."""
        return False

    @property
    def argmax_refusal(self) -> str | None:
        """Why the teacher's arg-max cannot be compared with."""
        return "a difference of arg-maxima is infinite"

    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return the divergence of each row's comparison."""
        teacher_RV, student_RV = (self._differences(side.logits()).log_softmax(-1) for side in (teacher, student))
        return kl_divergence(teacher_RV, student_RV)

    def _differences(self, logits_RV: Tensor) -> Tensor:
        shifted = [logits_RV.roll(-offset, 0) for offset in range(self.positive + self.negative)]
        first, second = shifted[: self.positive], shifted[self.positive :]
        return sum(first[1:], first[0]) / len(first) - sum(second[1:], second[0]) / len(second)

    def notation(self, teacher: str, student: str) -> str:
        """Return the comparison as text."""
        return f"KL(Δ{teacher} ‖ Δ{student})"
