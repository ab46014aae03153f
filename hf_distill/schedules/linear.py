"""A straight line between two values over a part of the run."""

from __future__ import annotations

from dataclasses import dataclass, field

from hf_distill.schedules.base import SCHEDULES, Schedule


def ramp(progress: float, begin: float, end: float) -> float:
    """Return how far `progress` has come from `begin` (0) to `end` (1), flat outside."""
    return min(max((progress - begin) / (end - begin), 0.0), 1.0)


def check_window(begin: float, end: float) -> None:
    """Refuse a window that is empty or leaves [0, 1].

    Raises:
        ValueError: Not 0 <= begin < end <= 1.
    """
    if not 0.0 <= begin < end <= 1.0:
        raise ValueError(f"a schedule needs 0 <= begin < end <= 1 (shares of the run), got {begin=:g}, {end=:g}")


@SCHEDULES.register("linear")
@dataclass(frozen=True, kw_only=True)
class Linear(Schedule):
    """From `start` to `stop` in a straight line between the shares `begin` and `end` of the run, flat outside."""

    start: float = field(metadata={"help": "value up to `begin`"})
    stop: float = field(metadata={"help": "value from `end` on"})
    begin: float = field(default=0.0, metadata={"help": "share of the run at which the change starts"})
    end: float = field(default=1.0, metadata={"help": "share of the run at which it is complete"})

    def __post_init__(self) -> None:
        check_window(self.begin, self.end)

    def value(self, progress: float) -> float:
        """Return the value on the line."""
        return self.start + (self.stop - self.start) * ramp(progress, self.begin, self.end)

    def formula(self) -> str:
        """Return the end points as text."""
        return f"linear {self.start:g}→{self.stop:g}"
