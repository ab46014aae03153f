"""A constant ratio per step between two positive values."""

from __future__ import annotations

from dataclasses import dataclass, field

from hf_distill.schedules.base import SCHEDULES, Schedule
from hf_distill.schedules.linear import check_window, ramp


@SCHEDULES.register("exponential")
@dataclass(frozen=True, kw_only=True)
class Exponential(Schedule):
    """From `start` to `stop` with a constant ratio per step: start · (stop / start)^share, both positive."""

    start: float = field(metadata={"help": "value up to `begin`, > 0"})
    stop: float = field(metadata={"help": "value from `end` on, > 0"})
    begin: float = field(default=0.0, metadata={"help": "share of the run at which the change starts"})
    end: float = field(default=1.0, metadata={"help": "share of the run at which it is complete"})

    def __post_init__(self) -> None:
        check_window(self.begin, self.end)
        if self.start <= 0 or self.stop <= 0:
            raise ValueError(
                f"an exponential schedule needs start > 0 and stop > 0, got start={self.start:g}, stop={self.stop:g}; "
                "use `linear` to reach zero"
            )

    def value(self, progress: float) -> float:
        """Return the value on the exponential."""
        share = ramp(progress, self.begin, self.end)
        # start^(1-s) * stop^s hits both end points exactly and cannot overflow in the ratio stop / start.
        return self.start ** (1.0 - share) * self.stop**share

    def formula(self) -> str:
        """Return the end points as text."""
        return f"exponential {self.start:g}→{self.stop:g}"
