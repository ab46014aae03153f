"""Margin-hinged squared error of logits, of Continuation-KD and (with margin 0) Annealing-KD."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor

from hf_distill.objectives.base import ALL_HEADS, OBJECTIVES, Objective
from hf_distill.objectives.distributions import ARGMAX_BELOW
from hf_distill.reading.signals import Head, Signals, at_least_float32


@OBJECTIVES.register("margin_mse")
@dataclass(frozen=True, kw_only=True)
class MarginMSE(Objective):
    """max(0, ‖z_S − φ·z_T‖² − m·φ) of each row, with φ = 1 / temperature; in the logits' unit squared.

    The student's logits have no temperature. Inside the margin the gradient is exactly 0, so that a student near
    enough to a noisy teacher does not copy its noise. The hinge is taken row by row and ‖·‖² is the mean over classes
    as in Annealing-KD's code; the papers leave both open (our instantiation), as they do the value of m.

    Shapes: student and teacher logits (R, V) -> (R,).
    Source: Jafari et al. 2022 (arXiv 2212.05998), equation for L_KD; margin 0: Jafari et al. 2021 (arXiv 2104.07163).
    """

    papers: ClassVar[tuple[str, ...]] = ("2104.07163", "2212.05998")
    heads: ClassVar[frozenset[Head]] = ALL_HEADS - {"question_answering"}
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.logits"})

    margin: float = field(default=0.0, metadata={"help": "m ≥ 0"})
    over_classes: Literal["mean", "sum"] = field(default="mean", metadata={"help": "what ‖·‖² does over classes"})

    def __post_init__(self) -> None:
        if self.margin < 0:
            raise ValueError(f"margin_mse: `margin` must be ≥ 0, got {self.margin:g}")

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the hinged squared error of each row.

        Raises:
            ValueError: The temperature is below 1e-3, and φ has no limit.
        """
        if temperature < ARGMAX_BELOW:
            raise ValueError(
                f"margin_mse has no limit at temperature {temperature:g}: φ = 1/temperature would grow without bound; "
                "give this term a temperature ≥ 1"
            )
        student_RV, teacher_RV = (at_least_float32(logits) for logits in signals.pair())
        squares_RV = (student_RV - teacher_RV / temperature).square()
        distance_R = squares_RV.mean(-1) if self.over_classes == "mean" else squares_RV.sum(-1)
        return (distance_R - self.margin / temperature).clamp(min=0.0) if self.margin else distance_R

    def formula(self) -> str:
        """Return the formula with its margin."""
        distance = "‖student − teacher/τ‖²"
        return f"max(0, {distance} − {self.margin:g}/τ)" if self.margin else distance
