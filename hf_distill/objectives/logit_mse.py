"""Squared difference between the logits of teacher and student."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from hf_distill.objectives.base import FIXED_CLASS_HEADS, OBJECTIVES, Objective
from hf_distill.reading.signals import Head, Signals, at_least_float32


@OBJECTIVES.register("logit_mse")
@dataclass(frozen=True, kw_only=True)
class LogitMSE(Objective):
    """(z_S − z_T)² over a row's classes, mean (default) or sum, in squared logits; 0 when the logits agree.

    Use it for classes, where it asks for every logit alike, the unlikely classes too: it is what forward KL with
    temperature on both becomes at a high temperature, τ²·KL → Σ (d − mean d)² / 2V with d = z_S − z_T, plus the mean
    itself: adding a constant to the student's logits changes no probability but changes this value. For vocabularies
    prefer a KL, most of whose weight is on tokens that occur.

    `over_classes` decides the size: the mean is Annealing-KD's code and does not grow with the number of classes; the
    sum is the squared norm ‖z_S − z_T‖² that both papers print, larger by that number. Weights, learning rates and
    margins found with one have to be converted for the other.

    The temperature does not apply. Where both logits are −inf they agree.

    Shapes: student and teacher logits (R, V) -> (R,).
    Source: Ba and Caruana 2014 (arXiv 1312.6184); Kim et al. 2021 (arXiv 2105.08919); first phase of Annealing-KD,
        Jafari et al. 2021 (arXiv 2104.07163), at full temperature.
    """

    papers: ClassVar[tuple[str, ...]] = ("1312.6184", "2105.08919")
    heads: ClassVar[frozenset[Head]] = FIXED_CLASS_HEADS
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.logits"})

    over_classes: Literal["mean", "sum"] = field(
        default="mean", metadata={"help": "mean or sum of the squares over a row's classes"}
    )

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the squared difference of each row."""
        student_RV, teacher_RV = signals.pair()
        teacher_RV = teacher_RV.detach()
        # Promoted to float32 with one copy of the two; equal logits may be -inf, whose difference is NaN.
        squares_RV = (at_least_float32(student_RV) - teacher_RV).masked_fill_(student_RV == teacher_RV, 0.0).square()
        return squares_RV.mean(-1) if self.over_classes == "mean" else squares_RV.sum(-1)

    def formula(self) -> str:
        """Return the distance as text."""
        return "MSE(teacher logits)" if self.over_classes == "mean" else "‖student − teacher logits‖²"
