"""Held-out learning curves per curriculum: median over seeds, band, every seed, and where the teacher changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from matplotlib.axes import Axes

from hf_distill.analysis.drawing import (
    BAND_ALPHA,
    INK,
    MUTED,
    new_figure,
    save_figure,
    series_colour,
    series_line_style,
    spread_labels,
    step_axis,
    style_axes,
)
from hf_distill.report.wording import number, setting, words
from hf_distill.run_record import RunRecord, StudentRun

_MOST_NAMED_SWITCHES = 4
_NAME_WIDTH = 0.12  # of the axes: a name that would run into the one before it is left out
_ROW_POINTS = 11


class Switch(NamedTuple):
    """A change of what the student learns from.

    The step is the first one taught by `revision` (None: by labels alone). An adaptive curriculum switches at
    a step of its own in each seed, so that a switch knows its seeds.
    """

    step: int
    revision: str | None
    seeds: tuple[int, ...]


class CurriculumCurve(NamedTuple):
    """One curriculum's held-out metric over training; `low` and `high` are the extremes over seeds."""

    curriculum: str
    place: int
    steps: tuple[int, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    seeds: dict[int, tuple[tuple[int, float], ...]]
    switches: tuple[Switch, ...]


class LearningCurvesInfo(NamedTuple):
    """Everything the picture of the learning curves shows, in the order in which the curricula were run."""

    metric: str
    greater_is_better: bool
    curves: tuple[CurriculumCurve, ...]
    teacher: float | None
    level: float | None
    chance: float | None


def learning_curves_info(record: RunRecord, *, chance: float | None = None) -> LearningCurvesInfo:
    """Gather the held-out curves of a record.

    The median at a step is taken over the seeds that were evaluated there; points without the metric are left out.

    Args:
        record: The run.
        chance: What guessing reaches, in units of the metric. Default: `chance` of the record's task, if it has one.
    """
    metric = str(record.task["metric"])
    return LearningCurvesInfo(
        metric=metric,
        greater_is_better=bool(record.task["greater_is_better"]),
        curves=tuple(
            _curve(name, place, runs, metric) for place, (name, runs) in enumerate(runs_by_curriculum(record).items())
        ),
        teacher=(record.teacher.get("final_metrics") or {}).get(metric),
        level=record.task.get("level"),
        chance=record.task.get("chance") if chance is None else chance,
    )


def runs_by_curriculum(record: RunRecord) -> dict[str, list[StudentRun]]:
    """Return the runs of each curriculum, curricula in the order in which they first appear."""
    groups: dict[str, list[StudentRun]] = {}
    for run in record.runs:
        groups.setdefault(run.curriculum, []).append(run)
    return groups


def plot_learning_curves(info: LearningCurvesInfo, path: str | Path) -> Path:
    """Draw the curves: thick medians over faint seeds, bands, dashed switches, names beside the last points.

    Args:
        info: What `learning_curves_info` returned.
        path: PNG file to write (1500 × 780 pixels).
    """
    figure = new_figure(1500, 780)
    axes = figure.add_subplot()
    for curve in info.curves:
        _draw_curve(axes, curve)
    for label, value, style in (
        ("teacher", info.teacher, (0, (6, 3))),
        ("level", info.level, (0, (1, 2.5))),
        ("chance", info.chance, (0, (1, 2.5))),
    ):
        if value is not None and not (label == "level" and info.teacher == value):
            axes.axhline(value, color=MUTED, linewidth=1.1, linestyle=style, zorder=1)
    style_axes(
        axes,
        title=f"Held-out {words(info.metric)} of the students",
        x_label="optimizer step",
        y_label=f"{words(info.metric)} ({'higher' if info.greater_is_better else 'lower'} is better)",
    )
    step_axis(axes)
    axes.margins(x=0.01)
    _draw_switches(axes, info)
    _draw_names(axes, info)
    return save_figure(figure, path)


def _curve(name: str, place: int, runs: Sequence[StudentRun], metric: str) -> CurriculumCurve:
    seeds = {run.seed: _points(run.history, metric) for run in runs}
    values: dict[int, list[float]] = {}
    for points in seeds.values():
        for step, value in points:
            values.setdefault(step, []).append(value)
    steps = sorted(values)
    return CurriculumCurve(
        curriculum=name,
        place=place,
        steps=tuple(steps),
        median=tuple(float(median(values[step])) for step in steps),
        low=tuple(min(values[step]) for step in steps),
        high=tuple(max(values[step]) for step in steps),
        seeds=seeds,
        switches=_switches(runs),
    )


def _points(history: Sequence[Mapping[str, float | None]], metric: str) -> tuple[tuple[int, float], ...]:
    points = [(int(point["step"] or 0), point.get(metric)) for point in history]
    return tuple(sorted((step, float(value)) for step, value in points if value is not None))


def _switches(runs: Sequence[StudentRun]) -> tuple[Switch, ...]:
    seeds: dict[tuple[int, str | None], list[int]] = {}
    for run in runs:
        for stage in run.stages[1:]:
            seeds.setdefault((stage.start, stage.revision), []).append(run.seed)
    ordered = sorted(seeds, key=lambda key: (key[0], key[1] or ""))
    return tuple(Switch(step, revision, tuple(seeds[step, revision])) for step, revision in ordered)


def _draw_curve(axes: Axes, curve: CurriculumCurve) -> None:
    colour, style = series_colour(curve.place), series_line_style(curve.place)
    if len(curve.seeds) > 1:
        axes.fill_between(curve.steps, curve.low, curve.high, color=colour, alpha=BAND_ALPHA, linewidth=0)
        for points in curve.seeds.values():
            axes.plot([step for step, _ in points], [value for _, value in points], color=colour, lw=0.7, alpha=0.45)
    marker = "o" if len(curve.steps) < 3 else ""
    axes.plot(curve.steps, curve.median, color=colour, linestyle=style, linewidth=2.2, marker=marker, zorder=3)


def _draw_switches(axes: Axes, info: LearningCurvesInfo) -> None:
    """Mark the switches as thin dashed lines; names stand above the frame, one row for each curriculum with any."""
    left, right = axes.get_xlim()
    row = 0
    for curve in reversed(info.curves):
        colour, last = series_colour(curve.place), -float("inf")
        named = len({switch.revision for switch in curve.switches}) <= _MOST_NAMED_SWITCHES
        for switch in curve.switches:
            axes.axvline(switch.step, color=colour, linewidth=0.9, linestyle=(0, (4, 3)), alpha=0.8, zorder=2)
            if not named or switch.step - last < _NAME_WIDTH * (right - left):
                continue
            last = switch.step
            axes.annotate(
                f"→ {switch.revision or 'labels'}",
                (switch.step, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(-2, 3 + _ROW_POINTS * row),
                textcoords="offset points",
                fontsize=7.5,
                color=colour,
                annotation_clip=False,
            )
        row += named and bool(curve.switches)
    axes.set_title(
        axes.get_title(loc="left"), loc="left", fontsize=10, fontweight="bold", color=INK, pad=8 + _ROW_POINTS * row
    )


def _draw_names(axes: Axes, info: LearningCurvesInfo) -> None:
    """Write each curve's name and last median, and the reference lines' names, to the right of the data."""
    names = [
        (f"{curve.curriculum}  {number(curve.median[-1])}", curve.median[-1], series_colour(curve.place), True)
        for curve in info.curves
        if curve.steps
    ]
    for label, value in (("teacher", info.teacher), ("level", info.level), ("chance", info.chance)):
        if value is not None:
            text = number(value) if label == "teacher" else setting(value)
            names.append((f"{label}  {text}", value, MUTED, False))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high)
    placed = spread_labels([value for _, value, _, _ in names], gap=0.048 * (high - low), low=low, high=high)
    for (text, value, colour, bold), position in zip(names, placed, strict=True):
        axes.annotate(
            text,
            (1.0, value),
            xycoords=("axes fraction", "data"),
            xytext=(1.025, position),
            textcoords=("axes fraction", "data"),
            fontsize=8.5,
            color=colour if bold else INK,
            fontweight="bold" if bold else "normal",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
            annotation_clip=False,
        )
