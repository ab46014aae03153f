"""How evenly a run's parameters contribute and what is left without the least sensitive: plain students beside others.

Reads what `hf-distill analyze sensitivity` left in the run's folder. Source: Xu, Koehn and Murray 2022
(arXiv 2205.11416), whose claim is that intra-distilled models have the smaller deviation.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from matplotlib.axes import Axes

from hf_distill.analysis.drawing import (
    BAND_ALPHA,
    INK,
    new_figure,
    save_figure,
    series_colour,
    series_line_style,
    style_axes,
)
from hf_distill.report.wording import UNKNOWN, number, percent

ANSWER = Path("analysis") / "sensitivity.json"
_SHARES = (0.0, 0.5, 0.8)


class Band(NamedTuple):
    """A curve over seeds: median, smallest and largest at each x."""

    x: tuple[float, ...]
    median: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Contribution(NamedTuple):
    """One curriculum, or the teacher (`place` None). Deviations are (median, smallest, largest) over seeds."""

    label: str
    place: int | None
    seeds: int
    loss: float
    deviation: tuple[float, float, float]
    normalised_deviation: tuple[float, float, float]
    top_sum: float
    raw: Band
    normalised: Band
    pruning: Band


class ContributionsInfo(NamedTuple):
    """Everything the section shows; `metric` is what was measured while pruning, `batches` those of the gradients."""

    metric: str
    batches: int
    top: float
    rows: tuple[Contribution, ...]


def contributions_info(folder: str | Path) -> ContributionsInfo | None:
    """Gather the sensitivity answer of a run's folder; None where that question was not asked.

    Raises:
        ValueError: The file cannot be read.
    """
    file = Path(folder) / ANSWER
    if not file.is_file():
        return None
    try:
        answer = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{file} is not readable JSON ({error}); ask `hf-distill analyze sensitivity` again"
        ) from error
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for model in answer["models"]:
        label = model["curriculum"] if model["kind"] == "student" else f"teacher, {model['name']}"
        groups.setdefault((model["kind"], label), []).append(model)
    students = [label for kind, label in groups if kind == "student"]
    rows = [
        _contribution(label, students.index(label) if kind == "student" else None, models)
        for (kind, label), models in groups.items()
    ]
    top = float(answer["models"][0]["sensitivity"]["top"]) if answer["models"] else 0.0
    return ContributionsInfo(answer["settings"]["metric"], answer["settings"]["batches"], top, tuple(rows))


def contribution_headers(info: ContributionsInfo) -> list[str]:
    """Return the column heads of the table."""
    pruned = [f"{info.metric} with {percent(share)} zeroed" if share else info.metric for share in _SHARES]
    top = f"held by the top {percent(info.top)}"
    return ["", "seeds", "training loss", "deviation of sensitivity", "deviation ÷ loss", top, *pruned]


def contribution_cells(row: Contribution) -> list[str]:
    """Return a row as text, in the order of `contribution_headers`."""
    kept = dict(zip(row.pruning.x, row.pruning.median, strict=True))
    return [
        row.label,
        str(row.seeds) if row.place is not None else UNKNOWN,
        number(row.loss),
        _spread(row.deviation),
        _spread(row.normalised_deviation),
        percent(row.top_sum),
        *(number(kept.get(100 * share)) for share in _SHARES),
    ]


def plot_contributions(info: ContributionsInfo, path: str | Path) -> Path:
    """Draw three panels: sensitivity by rank, as it is and divided by the loss, and the pruning curves.

    Args:
        info: What `contributions_info` returned.
        path: PNG file to write (1500 × 660 pixels).
    """
    figure = new_figure(1500, 660)
    raw, normalised, pruning = figure.subplots(1, 3)
    handles = {}
    for row in info.rows:
        _draw(raw, row, row.raw)
        _draw(normalised, row, row.normalised)
        handles[row.label] = _draw(pruning, row, row.pruning)
    rank = "rank of the parameter, % of all"
    style_axes(raw, title="Most sensitive parameters", x_label=rank, y_label="|θ · ∂L/∂θ|")
    style_axes(normalised, title="Divided by the loss", x_label=rank, y_label="|θ · ∂L/∂θ| / L")
    style_axes(
        pruning,
        title="Without the least sensitive",
        x_label="% of weights set to zero",
        y_label=f"held-out {info.metric}",
    )
    for axes in (raw, normalised):
        axes.set_yscale("log")
    figure.legend(
        list(handles.values()),
        list(handles),
        loc="outside lower left",
        ncols=min(len(handles), 6),
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
    )
    return save_figure(figure, path)


def _draw(axes: Axes, row: Contribution, band: Band) -> Any:
    colour = INK if row.place is None else series_colour(row.place)
    style = (0, (4, 2)) if row.place is None else series_line_style(row.place)
    if row.seeds > 1:
        axes.fill_between(band.x, band.low, band.high, color=colour, alpha=BAND_ALPHA, linewidth=0)
    (line,) = axes.plot(band.x, band.median, color=colour, linestyle=style, linewidth=1.6)
    return line


def _contribution(label: str, place: int | None, models: Sequence[Mapping[str, Any]]) -> Contribution:
    found = [model["sensitivity"] for model in models]
    top = 100 * float(found[0]["top"])
    points = len(found[0]["raw"]["top_values"])
    ranks = [top * point / max(points - 1, 1) for point in range(points)]
    shares = [100 * share for share in models[0]["pruning"]["shares"]]
    return Contribution(
        label=label,
        place=place,
        seeds=len(models),
        loss=float(median(one["loss"] for one in found)),
        deviation=_three([one["raw"]["deviation"] for one in found]),
        normalised_deviation=_three([one["normalised"]["deviation"] for one in found]),
        top_sum=float(median(one["raw"]["top_sum"] for one in found)),
        raw=_band(ranks, [one["raw"]["top_values"] for one in found]),
        normalised=_band(ranks, [one["normalised"]["top_values"] for one in found]),
        pruning=_band(shares, [model["pruning"]["values"] for model in models]),
    )


def _band(x: Sequence[float], curves: Sequence[Sequence[float]]) -> Band:
    columns = list(zip(*curves, strict=True))
    middle = tuple(float(median(column)) for column in columns)
    return Band(tuple(x), middle, tuple(map(min, columns)), tuple(map(max, columns)))


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return float(median(values)), min(values), max(values)


def _spread(three: tuple[float, float, float]) -> str:
    middle, low, high = (f"{value:.3g}" for value in three)
    return middle if low == high else f"{middle} [{low} – {high}]"
