"""A constant ratio per epoch, in steps: the layer weights of information-flow distillation (arXiv 2005.00727)."""

from __future__ import annotations

from dataclasses import dataclass, field

from hf_distill.schedules.base import SCHEDULES, Schedule

TOLERANCE = 1e-9
"""Keeps a step that falls exactly on an epoch's border in the epoch that begins there."""


@SCHEDULES.register("geometric")
@dataclass(frozen=True, kw_only=True)
class Geometric(Schedule):
    """start · ratio^k in the k-th (from 0) of `epochs` equal stretches of the run.

    Passalis et al. 2020 weigh intermediate layers by 100 · 0.7^epoch over 50 epochs: about 2 at epoch 11 and below
    0.01 from epoch 26 on. The stretches are shares of the run, whatever its real epochs are.

    Raises: ValueError unless start > 0, ratio > 0 and epochs ≥ 1.
    """

    start: float = field(metadata={"help": "value in the first stretch, > 0"})
    ratio: float = field(metadata={"help": "factor from one stretch to the next, > 0"})
    epochs: int = field(metadata={"help": "stretches of the run"})

    def __post_init__(self) -> None:
        if self.start <= 0 or self.ratio <= 0 or self.epochs < 1:
            raise ValueError(
                "a geometric schedule needs start > 0, ratio > 0 and epochs ≥ 1, got "
                f"start={self.start:g}, ratio={self.ratio:g}, epochs={self.epochs}"
            )

    def value(self, progress: float) -> float:
        """Return the value of the stretch that `progress` is in."""
        stretch = min(int(progress * self.epochs + TOLERANCE), self.epochs - 1)
        return self.start * self.ratio**stretch

    def formula(self) -> str:
        """Return base and ratio as text."""
        return f"{self.start:g}·{self.ratio:g}^epoch of {self.epochs}"
