"""How a ladder of teachers chooses one expert for each example; read without torch, because recipes hold it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from hf_distill.schedules import Constant, Schedule, build_schedule

Difficulty = Literal["loss", "entropy"]


@dataclass(frozen=True, kw_only=True)
class DifficultyRouter:
    """How hard an example is, and which experts are open; see `LadderTeacher`."""

    difficulty: Difficulty = field(
        default="loss",
        metadata={
            "help": "of an example, by the smallest expert: its `loss` on the labels, or the `entropy` of what it says"
        },
    )
    examples: int = field(
        default=1024, metadata={"help": "first training examples on which the difficulties' quantiles are measured"}
    )
    open: float | dict[str, Any] | None = field(
        default=None,
        metadata={"help": "how many experts may be chosen (number or schedule, rounded up); null: all from the start"},
    )

    def __post_init__(self) -> None:
        if self.examples < 2:
            raise ValueError(f"examples: expected at least 2 to measure difficulties on, got {self.examples}")
        if self.open is not None:
            build_schedule(self.open, path="open")

    def schedule(self, experts: int) -> Schedule:
        """Return how many of `experts` are open, over progress.

        Raises:
            ValueError: It leaves [0, experts], looked at in 1 % steps of the run.
        """
        if self.open is None:
            return Constant(level=float(experts))
        schedule = build_schedule(self.open, path="open")
        outside = [value for percent in range(101) if not 0 <= (value := schedule(percent / 100)) <= experts]
        if outside:
            raise ValueError(
                f"open: must stay within 0 and the {experts} experts of the ladder, but {schedule.formula()} gives "
                f"{outside[0]:g}"
            )
        return schedule

    def formula(self) -> str:
        """Return the choice as text for reports."""
        opened = "" if self.open is None else f", open {build_schedule(self.open, path='open').formula()}"
        return f"by {self.difficulty}{opened}"


def opened(value: float, experts: int) -> int:
    """Return the number of open experts that a schedule's value stands for: rounded up, at least the smallest."""
    return min(max(math.ceil(value), 1), experts)
