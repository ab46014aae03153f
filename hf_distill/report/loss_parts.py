"""What the loss was made of over training: objectives, weights and temperatures as small panels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from hf_distill.analysis.drawing import (
    INK,
    new_figure,
    save_figure,
    series_colour,
    series_line_style,
    step_axis,
    style_axes,
)
from hf_distill.report.curves import runs_by_curriculum
from hf_distill.run_record import RunRecord, StudentRun

_GROUPS = ("objective/", "weight/", "temperature/")
_SETTINGS = ("weight/", "temperature/")
_COLUMNS = 3


class PartCurve(NamedTuple):
    """A logged part of one curriculum's loss: the median over seeds at each logged step."""

    curriculum: str
    place: int
    steps: tuple[int, ...]
    median: tuple[float, ...]


class LossPartsInfo(NamedTuple):
    """The logged parts, one panel each: the whole loss first, then objectives, weights, temperatures."""

    panels: dict[str, tuple[PartCurve, ...]]
    curricula: tuple[str, ...]


def loss_parts_info(record: RunRecord) -> LossPartsInfo:
    """Gather `loss`, `objective/*`, and those `weight/*` and `temperature/*` that change, of the training logs."""
    groups = runs_by_curriculum(record)
    keys = {key for run in record.runs for entry in run.training_log for key in entry}
    parts = [key for group in _GROUPS for key in sorted(keys) if key.startswith(group)]
    panels: dict[str, tuple[PartCurve, ...]] = {}
    for key in (["loss"] if "loss" in keys else []) + parts:
        curves = (_curve(key, name, place, runs) for place, (name, runs) in enumerate(groups.items()))
        panels[key] = tuple(curve for curve in curves if curve.steps)
    shown = {key: curves for key, curves in panels.items() if curves and not _is_constant_setting(key, curves)}
    return LossPartsInfo(panels=shown, curricula=tuple(groups))


def plot_loss_parts(info: LossPartsInfo, path: str | Path) -> Path:
    """Draw one small panel a part, a line a curriculum, one legend below.

    Args:
        info: What `loss_parts_info` returned, with at least one panel.
        path: PNG file to write (1500 pixels wide, 390 a row of three panels and 60 for the legend).

    Raises:
        ValueError: No panel to draw.
    """
    if not info.panels:
        raise ValueError("no part of the loss was logged: set `logging_steps`, or leave this picture out.")
    columns = min(len(info.panels), _COLUMNS)
    rows = -(-len(info.panels) // columns)
    figure = new_figure(1500, 390 * rows + 60)
    grid = figure.subplots(rows, columns, squeeze=False)
    handles = {}
    for axes, (key, curves) in zip(grid.flat, info.panels.items(), strict=False):
        for curve in curves:
            (handles[curve.curriculum],) = axes.plot(
                curve.steps,
                curve.median,
                color=series_colour(curve.place),
                linestyle=series_line_style(curve.place),
                linewidth=1.6,
                marker="o" if len(curve.steps) == 1 else "",
            )
        style_axes(axes, title=key, x_label="optimizer step")
        step_axis(axes)
    for axes in grid.flat[len(info.panels) :]:
        axes.set_axis_off()
    names = [name for name in info.curricula if name in handles]
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="outside lower left",
        ncols=min(len(names), 5),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )
    return save_figure(figure, path)


def _is_constant_setting(key: str, curves: Sequence[PartCurve]) -> bool:
    return key.startswith(_SETTINGS) and len({value for curve in curves for value in curve.median}) == 1


def _curve(key: str, curriculum: str, place: int, runs: Sequence[StudentRun]) -> PartCurve:
    values: dict[int, list[float]] = {}
    for entry in (entry for run in runs for entry in run.training_log):
        value = entry.get(key)
        if value is not None:
            values.setdefault(int(entry["step"] or 0), []).append(float(value))
    steps = sorted(values)
    return PartCurve(curriculum, place, tuple(steps), tuple(float(median(values[step])) for step in steps))
