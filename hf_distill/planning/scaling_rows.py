"""Steps on many GPUs as rows of a table, for the terminal and for pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hf_distill.planning.scaling import Point, efficiency


class Rows(NamedTuple):
    """Heads of the columns, and a text for each column of each row."""

    heads: list[str]
    rows: list[list[str]]


PARTS = ["student", "teacher", "interconnect", "revisions"]


def step_rows(points: Sequence[Point], *, memory: int) -> Rows:
    """Return the parts of a step by number of GPUs; the first point is what the others are compared with.

    Args:
        points: Of one layout.
        memory: Bytes that a GPU has.
    """
    heads = ["GPUs", "a GPU's batch", "step", *PARTS, "bound by", "efficiency", f"memory (of {memory / 1e9:.0f} GB)"]
    return Rows(heads, [_step_row(point, points[0]) for point in points])


def _step_row(point: Point, alone: Point) -> list[str]:
    parts = (point.step, point.compute, point.teacher, point.interconnect, point.revisions)
    return [
        f"{point.gpus:,}",
        f"{point.micro_batch} × {point.accumulation}",
        *map(time_text, parts),
        point.bound,
        share_text(efficiency(point, alone)),
        memory_text(point),
    ]


def compared_rows(layouts: Mapping[str, Sequence[Point]], gpus: Sequence[int]) -> Rows:
    """Return step, bound and efficiency of several layouts side by side, for some numbers of GPUs.

    Args:
        layouts: Points by the head of their column, each with its first point to be compared with.
        gpus: Numbers that all of them have.
    """
    rows = []
    for number in gpus:
        cells = []
        for points in layouts.values():
            found = next((point for point in points if point.gpus == number), None)
            cells.append("–" if found is None else _summary(found, points[0]))
        rows.append([f"{number:,}", *cells])
    return Rows(["GPUs", *layouts], rows)


def layout_rows(layouts: Mapping[str, Sequence[Point]], gpus: Sequence[int]) -> Rows:
    """Return memory and step of several layouts below each other, for some numbers of GPUs."""
    heads = ["engine, teacher"] + [f"{what}, {number:,} GPUs" for number in gpus for what in ("memory", "step")]
    rows = []
    for name, points in layouts.items():
        by_number = {point.gpus: point for point in points}
        cells = [text for number in gpus for text in _memory_and_step(by_number[number])]
        rows.append([name, *cells])
    return Rows(heads, rows)


def _memory_and_step(point: Point) -> tuple[str, str]:
    return memory_text(point), time_text(point.step)


def _summary(point: Point, alone: Point) -> str:
    return f"{time_text(point.step)}, {share_text(efficiency(point, alone))}, {point.bound}"


def memory_text(point: Point) -> str:
    """Return the memory of a GPU; what does not fit says so."""
    size = f"{point.memory / 1e9:.1f} GB" if point.memory >= 10**9 else f"{point.memory / 1e6:.0f} MB"
    return size + ("" if point.fits else ", too much")


def share_text(share: float) -> str:
    """Return a share for people, small ones with a digit more."""
    return f"{share:.0%}" if share >= 0.0995 else f"{share:.1%}"


def time_text(seconds: float) -> str:
    """Return seconds for people, in milliseconds below one second; nothing to speak of is 0."""
    milliseconds = 1000 * seconds
    if milliseconds < 0.005:
        return "0"
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.2g} ms"
    return f"{seconds:.0f} s" if seconds >= 100 else f"{seconds:.3g} s"
