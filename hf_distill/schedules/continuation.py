"""The schedules of Annealing-KD (arXiv 2104.07163) and Continuation-KD (arXiv 2212.05998), both Jafari et al."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hf_distill.schedules.base import SCHEDULES, Schedule
from hf_distill.schedules.linear import check_window, ramp

TOLERANCE = 1e-9
"""Keeps a step that falls exactly on a border of φ or of an epoch in what begins there."""


@SCHEDULES.register("annealing_temperature")
@dataclass(frozen=True, kw_only=True)
class AnnealingTemperature(Schedule):
    """Divisor 1/φ of the teacher's logits, φ = 1 − (T − 1)/T_max with T falling from T_max to 1 in equal steps.

    Without `epochs`, T = ⌈(1 − u)·T_max⌉ over the share u of the window: T_max stretches of one length, as in
    Annealing-KD's code wherever T_max divides its epochs. With `epochs` = n Continuation-KD's printed algorithm is
    followed: epoch i (from 1) has T = T_max − ⌊i / ⌊n/T_max⌋⌋, one epoch short in the first stretch. T is kept in
    [1, T_max]; the printed algorithm lets it reach 0 (φ > 1).

    Raises: ValueError unless 1 ≤ T_max ≤ epochs.
    """

    steps: int = field(metadata={"help": "T_max: how many values φ takes"})
    epochs: int | None = field(default=None, metadata={"help": "Continuation-KD's printed trace, so many epochs"})
    begin: float = field(default=0.0, metadata={"help": "share of the run at which the window starts"})
    end: float = field(default=1.0, metadata={"help": "share of the run at which it ends"})

    def __post_init__(self) -> None:
        check_window(self.begin, self.end)
        if self.steps < 1 or (self.epochs is not None and self.epochs < self.steps):
            raise ValueError(
                f"annealing needs 1 ≤ steps ≤ epochs, got steps={self.steps}, epochs={self.epochs}: every value of "
                "the temperature lasts at least one epoch"
            )

    def value(self, progress: float) -> float:
        """Return 1/φ at `progress`."""
        share = ramp(progress, self.begin, self.end)
        if self.epochs is None:
            level = math.ceil((1.0 - share) * self.steps - TOLERANCE)
        else:
            epoch = min(int(share * self.epochs + TOLERANCE) + 1, self.epochs)
            level = self.steps - epoch // (self.epochs // self.steps)
        level = min(max(level, 1), self.steps)
        return self.steps / (self.steps - level + 1)

    def formula(self) -> str:
        """Return the range of φ as text."""
        return f"1/φ, φ=1/{self.steps}→1"


@SCHEDULES.register("continuation_weight")
@dataclass(frozen=True, kw_only=True)
class ContinuationWeight(Schedule):
    """Weight ψ of the labels: `slope`·u up to u = `until`, then 1.

    GLUE: 0.75·u up to 2/3 of the run, then a jump from 0.5 to 1. CIFAR: slope 4/3 up to 3/4, without a jump.
    """

    slope: float = field(default=0.75, metadata={"help": "rise of ψ over the run"})
    until: float = field(default=2.0 / 3.0, metadata={"help": "share of the run after which only labels count"})

    def __post_init__(self) -> None:
        if self.slope < 0 or not 0.0 <= self.until <= 1.0 or self.slope * self.until > 1.0 + 1e-9:
            raise ValueError(
                "continuation_weight needs slope ≥ 0, 0 ≤ until ≤ 1 and slope·until ≤ 1, got "
                f"slope={self.slope:g}, until={self.until:g}"
            )

    def value(self, progress: float) -> float:
        """Return ψ at `progress`."""
        return self.slope * progress if progress <= self.until else 1.0

    def formula(self) -> str:
        """Return ψ as text."""
        return f"{self.slope:g}·u, 1 after {self.until:.2g}"
