"""Half a cosine between two values: slow, fast, slow."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hf_distill.schedules.base import SCHEDULES, Schedule
from hf_distill.schedules.linear import check_window, ramp


@SCHEDULES.register("cosine")
@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """From `start` to `stop` along half a cosine between the shares `begin` and `end` of the run, flat outside."""

    start: float = field(metadata={"help": "value up to `begin`"})
    stop: float = field(metadata={"help": "value from `end` on"})
    begin: float = field(default=0.0, metadata={"help": "share of the run at which the change starts"})
    end: float = field(default=1.0, metadata={"help": "share of the run at which it is complete"})

    def __post_init__(self) -> None:
        check_window(self.begin, self.end)

    def value(self, progress: float) -> float:
        """Return the value on the half cosine."""
        share = (1.0 - math.cos(math.pi * ramp(progress, self.begin, self.end))) / 2.0
        return self.start + (self.stop - self.start) * share

    def formula(self) -> str:
        """Return the end points as text."""
        return f"cosine {self.start:g}→{self.stop:g}"
