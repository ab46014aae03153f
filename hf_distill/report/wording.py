"""How numbers are written for readers: metrics, durations, sizes, counts, and what is not known."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

UNKNOWN = "–"


def number(value: float | None) -> str:
    """Write a metric or a loss: four decimals below 10, so that columns line up, and fewer above."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0 or 0.001 <= abs(value) < 10:
        return f"{value:.4f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:,.2f}"


def setting(value: float | None) -> str:
    """Write a number that somebody chose (a level, a rate) as it was written."""
    return UNKNOWN if value is None else f"{value:g}"


def count(value: float | None) -> str:
    """Write a count of steps, rows or parameters, with thousands separated."""
    return UNKNOWN if value is None else f"{round(value):,}"


def seconds(value: float | None) -> str:
    """Write a duration: 2.6 ms, 8.4 s, 2 min 05 s, 3 h 20 min."""
    if value is None:
        return UNKNOWN
    if 0 < value < 1:
        return f"{1000 * value:.3g} ms"
    if value < 59.5:
        return f"{value:.3g} s"
    if round(value) < 3600:
        minutes, rest = divmod(round(value), 60)
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes:02d} min"


def size(value: float | None) -> str:
    """Write a number of bytes as KiB, MiB or GiB."""
    if value is None:
        return UNKNOWN
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} GiB"


def percent(value: float | None) -> str:
    """Write a share in percent."""
    return UNKNOWN if value is None else f"{100 * value:.3g} %"


def command_line(command: Sequence[str]) -> str:
    """Write a command as one would type it: the program by its name, `__main__.py` as `python -m hf_distill`."""
    if not command:
        return ""
    program = PurePath(command[0])
    first = f"python -m {program.parent.name}" if program.name == "__main__.py" else shlex.quote(program.name)
    return " ".join([first, *map(shlex.quote, command[1:])])


def model_name(model: Mapping[str, Any]) -> str:
    """Write a model of a record: its description, else where it came from, else its architecture and configuration."""
    origin = model.get("origin")
    if model.get("description") or not isinstance(origin, Mapping):
        return str(model.get("description") or origin or UNKNOWN)
    if origin.get("pretrained"):
        return "@".join(str(origin[key]) for key in ("pretrained", "revision") if origin.get(key))
    config = ", ".join(f"{words(key)} {value}" for key, value in (origin.get("config") or {}).items())
    return f"{origin.get('architecture', UNKNOWN)}{f' ({config})' if config else ''}"


def task_title(task: Mapping[str, Any]) -> str:
    """Return what people call a record's task: `MRPC (GLUE)`, or its name as words."""
    return str((task.get("description") or {}).get("title") or words(str(task["name"])))


def words(name: str) -> str:
    """Write a key such as `exact_match` as words."""
    return name.replace("_", " ")
