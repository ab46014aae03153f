"""Squared errors of a regression head: with the labels, or with the teacher's prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES, REGRESSION_HEADS, Objective
from hf_distill.reading.signals import Head, Signals, at_least_float32


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the squared error of each example, averaged over a head's outputs.

    Shapes: prediction (R, outputs), target (R,) or (R, outputs) -> (R,).

    Raises:
        ValueError: The two have different numbers of outputs.
    """
    prediction, target = at_least_float32(prediction), at_least_float32(target)
    target = target.unsqueeze(-1) if target.dim() == 1 else target
    if prediction.shape != target.shape:
        raise ValueError(
            f"regression predictions have shape {tuple(prediction.shape)} but targets {tuple(target.shape)}; "
            "set the head's num_labels to the number of targets"
        )
    return (prediction - target).square().mean(-1)


@OBJECTIVES.register("mean_squared_error")
@dataclass(frozen=True, kw_only=True)
class MeanSquaredError(Objective):
    """Squared error of a regression student with the labels, in the labels' unit squared.

    Shapes: predictions (R, outputs), labels (R,) or (R, outputs) -> (R,).
    """

    heads: ClassVar[frozenset[Head]] = REGRESSION_HEADS
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the squared error of each example."""
        return squared_error(*signals.labelled())

    def formula(self) -> str:
        """Return the name."""
        return "MSE(labels)"


@OBJECTIVES.register("teacher_mean_squared_error")
@dataclass(frozen=True, kw_only=True)
class TeacherMeanSquaredError(Objective):
    """Squared error of a regression student with the teacher's prediction, in the labels' unit squared.

    Shapes: predictions (R, outputs) of both -> (R,).
    """

    heads: ClassVar[frozenset[Head]] = REGRESSION_HEADS
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.logits"})

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the squared difference of each example."""
        return squared_error(*signals.pair())

    def formula(self) -> str:
        """Return the name."""
        return "MSE(teacher)"
