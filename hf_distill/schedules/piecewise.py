"""Straight lines through given points, or steps at them."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from hf_distill.schedules.base import SCHEDULES, Schedule


@SCHEDULES.register("piecewise")
@dataclass(frozen=True, kw_only=True)
class Piecewise(Schedule):
    """Through the points `[progress, value]`, in straight lines or in steps; flat before the first and after the last.

    With `between: previous` the value of the last point at or before progress holds, so that
    `[[0, 0], [0.5, 1]]` is 0 in the first half and 1 from the middle on.
    """

    points: list[list[float]] = field(metadata={"help": "[progress, value] pairs, progress rising in [0, 1]"})
    between: Literal["linear", "previous"] = field(default="linear", metadata={"help": "lines or steps"})

    def __post_init__(self) -> None:
        if not self.points or any(len(point) != 2 for point in self.points):
            raise ValueError(f"a piecewise schedule needs points [[progress, value], ...], got {self.points!r}")
        positions = [point[0] for point in self.points]
        rising = all(a < b for a, b in pairwise(positions))
        if not rising or positions[0] < 0 or positions[-1] > 1:
            raise ValueError(f"the points' progress must rise strictly within [0, 1], got {positions}")

    def value(self, progress: float) -> float:
        """Return the value between the neighbouring points."""
        index = bisect_right([point[0] for point in self.points], progress)
        if index == 0:
            return self.points[0][1]
        if index == len(self.points) or self.between == "previous":
            return self.points[index - 1][1]
        (x0, y0), (x1, y1) = self.points[index - 1], self.points[index]
        return y0 + (y1 - y0) * (progress - x0) / (x1 - x0)

    def formula(self) -> str:
        """Return the points as text."""
        kind = "piecewise" if self.between == "linear" else "steps"
        return f"{kind} " + " ".join(f"{x:g}:{y:g}" for x, y in self.points)
