"""Quality against cost: every model a point, and the front of those that nothing beats at their cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

from hf_distill.analysis.drawing import INK, MUTED, new_figure, save_figure, series_colour, spread_labels, style_axes
from hf_distill.report.evaluation_rows import EvaluatedRow, EvaluatedTable, batch_text
from hf_distill.report.wording import number, words

Cost = Literal["latency", "parameters"]
# Shares of the axes: between two names, from a point to its name, and about the width of a letter.
_LABEL_GAP, _ABOVE, _BESIDE, _LETTER = 0.052, 0.035, 0.025, 0.0088
_MARKERS = {"teacher": "D", "student": "o", "baseline": "s"}


class ParetoPoint(NamedTuple):
    """One model: cost and quality with their spreads, and its place in the order of colours (None: grey)."""

    label: str
    role: str
    place: int | None
    cost: float
    cost_low: float
    cost_high: float
    quality: float
    quality_low: float
    quality_high: float


class ParetoInfo(NamedTuple):
    """The points, and the places of those on the front, cheapest first."""

    metric: str
    greater_is_better: bool
    cost: Cost
    cost_text: str
    points: tuple[ParetoPoint, ...]
    front: tuple[int, ...]


def pareto_info(table: EvaluatedTable, *, cost: Cost | None = None) -> ParetoInfo:
    """Gather the points of a table; models without a metric or a cost are left out.

    Args:
        table: The evaluation.
        cost: "latency" takes that of the smallest batch; by default it is taken where it was measured.
    """
    timed = sorted(
        {(timing.batch_size, batch_text(timing)) for row in table.rows for timing in row.timings},
        key=lambda pair: pair[0],
    )
    cost = cost or ("latency" if timed else "parameters")
    batch, at = timed[0] if cost == "latency" and timed else (0, "")
    points = [point for row in table.rows if (point := _point(row, cost, batch)) is not None]
    text = f"latency of {at} on {table.device}" if cost == "latency" else "parameters"
    front = pareto_front([(one.cost, one.quality) for one in points], greater_is_better=table.greater_is_better)
    return ParetoInfo(table.metric, table.greater_is_better, cost, text, tuple(points), front)


def pareto_front(points: Sequence[tuple[float, float]], *, greater_is_better: bool) -> tuple[int, ...]:
    """Return the places of the points that no other beats, cheapest first: none costs no more and is better.

    Of equal points the first stands for all.

    Args:
        points: (cost, quality).
        greater_is_better: Whether more quality is better.
    """
    sign = 1.0 if greater_is_better else -1.0
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -sign * points[place][1], place))
    front: list[int] = []
    best = -math.inf
    for place in order:
        if sign * points[place][1] > best:
            best = sign * points[place][1]
            front.append(place)
    return tuple(front)


def plot_pareto(info: ParetoInfo, path: str | Path, *, title: str | None = None) -> Path:
    """Draw the points, named, with their spreads, and the front as steps.

    Args:
        info: What `pareto_info` returned.
        path: PNG file to write (1500 × 870 pixels).
        title: By default the metric against the cost.

    Raises:
        ValueError: No point.
    """
    if not info.points:
        raise ValueError("no model has both a metric and a cost: leave this picture out.")
    figure = new_figure(1500, 870)
    axes = figure.add_subplot()
    _scale(axes, info)
    for place, point in enumerate(info.points):
        _draw(axes, point, on_front=place in info.front)
    _draw_front(axes, info)
    better = "higher" if info.greater_is_better else "lower"
    style_axes(
        axes,
        title=title or f"Held-out {words(info.metric)} against {info.cost}",
        x_label=f"{info.cost_text} (less is better)",
        y_label=f"{words(info.metric)} ({better} is better)",
    )
    axes.grid(axis="x", color="#eef0f4", linewidth=0.8)
    _draw_names(axes, info)
    return save_figure(figure, path)


def point_colour(point: ParetoPoint) -> str:
    """Return the colour of a point: that of its curriculum, dark for teachers, grey for baselines."""
    if point.place is not None:
        return series_colour(point.place)
    return INK if point.role == "teacher" else MUTED


def _point(row: EvaluatedRow, cost: Cost, batch: int) -> ParetoPoint | None:
    timing = row.latency(batch) if cost == "latency" else None
    if row.metric is None or (cost == "latency" and timing is None):
        return None
    size = float(row.parameters)
    costs = (size, size, size) if timing is None else (timing.median_seconds, *timing.quartile_seconds)
    return ParetoPoint(
        label=row.label,
        role=row.role,
        place=row.place,
        cost=costs[0],
        cost_low=costs[1],
        cost_high=costs[2],
        quality=row.metric,
        quality_low=row.metric if row.low is None else row.low,
        quality_high=row.metric if row.high is None else row.high,
    )


def _scale(axes: Axes, info: ParetoInfo) -> None:
    costs = [point.cost for point in info.points]
    low, high = min(costs), max(costs)
    if high / low < 1.05:
        low, high = low / 1.5, high * 1.5
    span = math.log(high / low)
    axes.set_xscale("log")
    axes.set_xlim(low * math.exp(-0.15 * span), high * math.exp(0.2 * span))
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(EngFormatter(unit="s" if info.cost == "latency" else "", sep=" "))
    values = [value for point in info.points for value in (point.quality_low, point.quality_high)]
    room = 0.1 * (max(values) - min(values)) or 0.05 * abs(max(values)) or 0.1
    axes.set_ylim(min(values) - room, max(values) + room)


def _draw(axes: Axes, point: ParetoPoint, *, on_front: bool) -> None:
    colour = point_colour(point)
    axes.errorbar(
        point.cost,
        point.quality,
        yerr=[[max(point.quality - point.quality_low, 0)], [max(point.quality_high - point.quality, 0)]],
        xerr=[[max(point.cost - point.cost_low, 0)], [max(point.cost_high - point.cost, 0)]],
        fmt=_MARKERS[point.role],
        color=colour,
        mfc=colour if on_front else "white",
        mew=1.6,
        markersize=8 if point.role != "teacher" else 7.5,
        elinewidth=1.1,
        zorder=5 if on_front else 4,
    )


def _draw_front(axes: Axes, info: ParetoInfo) -> None:
    """Steps from each point of the front to the next: what is to be had for at most that cost."""
    x, y = zip(*((info.points[place].cost, info.points[place].quality) for place in info.front), strict=True)
    axes.plot(x, y, drawstyle="steps-post", color=MUTED, linewidth=1.2, linestyle=(0, (5, 2)), zorder=2)


def _draw_names(axes: Axes, info: ParetoInfo) -> None:
    """Name every point, above its bars and to its right, or to its left where there is no room.

    Names of neighbours are moved apart and keep a thin line to their point.
    """
    low, high = axes.get_ylim()
    left, right = (math.log(value) for value in axes.get_xlim())
    across = [(math.log(point.cost) - left) / (right - left) for point in info.points]
    for group in _neighbours(across):
        wanted = [(info.points[place].quality - low) / (high - low) + _ABOVE for place in group]
        placed = spread_labels(wanted, gap=_LABEL_GAP, low=0.02, high=0.98)
        longest = max(len(name_of(info.points[place])) for place in group)
        edge = max(across[place] for place in group)
        fits = edge + _BESIDE + longest * _LETTER <= 1.0
        column = edge + _BESIDE if fits else min(across[place] for place in group) - _BESIDE
        for place, position in zip(group, placed, strict=True):
            _name(axes, info.points[place], on_front=place in info.front, at=(column, position), to_right=fits)


def name_of(point: ParetoPoint) -> str:
    """Return what stands beside a point."""
    return f"{point.label}  {number(point.quality)}"


def _neighbours(across: Sequence[float]) -> list[list[int]]:
    """Return the places in groups of points whose names would stand above one another."""
    groups: list[list[int]] = []
    for place in sorted(range(len(across)), key=lambda place: across[place]):
        if groups and across[place] - across[groups[-1][0]] < 0.16:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def _name(axes: Axes, point: ParetoPoint, *, on_front: bool, at: tuple[float, float], to_right: bool) -> None:
    arrow: dict[str, Any] = {
        "arrowstyle": "-",
        "color": point_colour(point),
        "linewidth": 0.7,
        "alpha": 0.6,
        "shrinkA": 2,
        "shrinkB": 5,
        "relpos": (0 if to_right else 1, 0.5),
    }
    axes.annotate(
        name_of(point),
        (point.cost, point.quality),
        xycoords="data",
        xytext=at,
        textcoords="axes fraction",
        fontsize=8.5,
        color=point_colour(point),
        fontweight="bold" if on_front else "normal",
        va="center",
        ha="left" if to_right else "right",
        arrowprops=arrow,
        annotation_clip=False,
        bbox={"boxstyle": "square,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.9},
        zorder=3,
    )
