"""What a schedule is: a value as a pure function of progress, so that a resumed run is the same run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from hf_distill.registry import Registry


class Schedule(ABC):
    """A number that changes over training, as a pure function of progress."""

    @abstractmethod
    def value(self, progress: float) -> float:
        """Return the value at `progress` = step / max_steps in [0, 1]."""

    @abstractmethod
    def formula(self) -> str:
        """Return the schedule as short text for reports and model cards."""

    def __call__(self, progress: float) -> float:
        """Return the value at `progress`, clipped to [0, 1] first."""
        return self.value(min(max(progress, 0.0), 1.0))


SCHEDULES: Registry[Schedule] = Registry("schedule", Schedule)


def build_schedule(spec: float | Mapping[str, Any] | Schedule, *, path: str) -> Schedule:
    """Build a schedule from a number (constant) or `{"name": ..., **fields}`.

    Args:
        spec: A number, a mapping of a recipe, or a schedule (returned as it is).
        path: Where the value stands in the recipe, for error messages.

    Raises:
        ValueError: Not a number or mapping, or a field that the schedule refuses.
    """
    if isinstance(spec, Schedule):
        return spec
    if isinstance(spec, Mapping):
        return SCHEDULES.build(spec, path=path)
    if isinstance(spec, (int, float)) and not isinstance(spec, bool):
        return SCHEDULES.build({"name": "constant", "level": float(spec)}, path=path)
    raise ValueError(f"{path}: expected a number or a mapping with a schedule's `name`, got {spec!r}")
