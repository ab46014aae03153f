"""What the students cost: seconds a run, and how much of it went to the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from hf_distill.analysis.drawing import INK, MUTED, new_figure, save_figure, series_colour, style_axes
from hf_distill.report.curves import runs_by_curriculum
from hf_distill.report.wording import percent, seconds
from hf_distill.run_record import RunRecord, StudentRun

COST_KEYS = (
    "seconds",
    "median_step_seconds",
    "teacher_share",
    "swap_stall_seconds",
    "examples_per_second",
    "tokens_per_second",
    "peak_memory_bytes",
)


class CurriculumCosts(NamedTuple):
    """Medians over seeds; None where nothing was measured. Seconds, shares in [0, 1], bytes."""

    curriculum: str
    place: int
    seconds: float | None
    median_step_seconds: float | None
    teacher_share: float | None
    swap_stall_seconds: float | None
    examples_per_second: float | None
    tokens_per_second: float | None
    peak_memory_bytes: float | None


def costs_info(record: RunRecord) -> tuple[CurriculumCosts, ...]:
    """Gather the median costs of each curriculum, in the order in which they were run."""
    return tuple(
        CurriculumCosts(name, place, *(_median_cost(runs, key) for key in COST_KEYS))
        for place, (name, runs) in enumerate(runs_by_curriculum(record).items())
    )


def plot_costs(info: Sequence[CurriculumCosts], path: str | Path) -> Path:
    """Draw one bar a curriculum: seconds of a run, the teacher's share in the full colour, the rest faint.

    Args:
        info: What `costs_info` returned; curricula without a measured time are left out.
        path: PNG file to write (1500 pixels wide, 75 a bar and 195 for the axes).

    Raises:
        ValueError: No curriculum has a measured time.
    """
    measured = [costs for costs in info if costs.seconds is not None]
    if not measured:
        raise ValueError("no run of this record has a measured time: leave this picture out.")
    figure = new_figure(1500, 75 * len(measured) + 195)
    axes = figure.add_subplot()
    for row, costs in enumerate(measured):
        colour, total = series_colour(costs.place), costs.seconds or 0.0
        teacher = total * (costs.teacher_share or 0.0)
        axes.barh(row, total, height=0.58, color=colour, alpha=0.28, linewidth=0)
        axes.barh(row, teacher, height=0.58, color=colour, linewidth=0)
        share = "" if costs.teacher_share is None else f"  ({percent(costs.teacher_share)} in the teacher)"
        axes.annotate(
            f"{seconds(total)}{share}",
            (total, row),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8.5,
            color=INK,
        )
    style_axes(axes, title="Time of one student (full colour: the teacher's share)", x_label="seconds")
    axes.set_yticks(range(len(measured)), [costs.curriculum for costs in measured])
    axes.tick_params(axis="y", length=0, labelsize=9, labelcolor=INK)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_color(MUTED)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.3 * max(costs.seconds or 0.0 for costs in measured) or 1.0)
    return save_figure(figure, path)


def _median_cost(runs: Sequence[StudentRun], key: str) -> float | None:
    values = [value for run in runs if (value := run.costs.get(key)) is not None]
    return float(median(values)) if values else None
