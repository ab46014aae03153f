"""The same value throughout."""

from __future__ import annotations

from dataclasses import dataclass, field

from hf_distill.schedules.base import SCHEDULES, Schedule


@SCHEDULES.register("constant")
@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """The same value throughout."""

    level: float = field(metadata={"help": "the value"})

    def value(self, progress: float) -> float:
        """Return the level."""
        return self.level

    def formula(self) -> str:
        """Return the level as text."""
        return f"{self.level:g}"
