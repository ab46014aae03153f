"""One look for every picture: colours safe for colour-blind readers, open axes, PNG files of a known size in pixels.

Only matplotlib's object interface: no pyplot, no global state, so that pictures can be drawn in a training process.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import EngFormatter

from hf_distill.atomic import atomic_write_bytes

DPI = 150
INK = "#1d232b"
MUTED = "#667080"
GRID = "#e6e9ee"
BAND_ALPHA = 0.16

# Okabe and Ito (2008) without yellow, which vanishes on white, and with the orange after the darker tones.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#E69F00", "#56B4E9", "#5B5B5B")
_LINE_STYLES = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)))


def series_colour(index: int) -> str:
    """Return the colour of the series at a place in the order; it repeats after seven, with another line style."""
    return PALETTE[index % len(PALETTE)]


def series_line_style(index: int) -> str | tuple[int, tuple[float, ...]]:
    """Return the line style of the series at a place in the order: solid for the first seven."""
    return _LINE_STYLES[(index // len(PALETTE)) % len(_LINE_STYLES)]


def new_figure(width: int, height: int) -> Figure:
    """Return an empty white figure of `width` × `height` pixels."""
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, whole or not at all, and return its path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return atomic_write_bytes(Path(path), buffer.getvalue())


def style_axes(axes: Axes, *, title: str, x_label: str = "", y_label: str = "") -> None:
    """Give axes the common look: open frame, faint horizontal grid, title flush left."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#b4bcc8")
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=8, length=3, color="#b4bcc8")
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=INK, pad=8)
    axes.set_xlabel(x_label, fontsize=8.5, color=MUTED)
    axes.set_ylabel(y_label, fontsize=8.5, color=MUTED)


def step_axis(axes: Axes) -> None:
    """Write large step numbers on the horizontal axis as 20k and 1.5M."""
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def spread_labels(positions: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Move label positions apart until neighbours are at least `gap` away, with the least sum of squared moves.

    Args:
        positions: Wanted positions, in any order.
        gap: Smallest distance between two labels. It shrinks if the labels would not fit between `low` and `high`.
        low: Smallest position allowed.
        high: Largest position allowed.

    Returns:
        The moved positions, in the order given. Equal positions keep their order from top to bottom.
    """
    count = len(positions)
    if count == 0:
        return []
    gap = min(gap, (high - low) / max(count - 1, 1))
    order = sorted(range(count), key=lambda index: (positions[index], -index))
    # Without the gaps, positions only have to rise: isotonic regression, by pooling neighbours that do not.
    blocks: list[tuple[float, int]] = []
    for place, index in enumerate(order):
        total, size = positions[index] - place * gap, 1
        while blocks and blocks[-1][0] / blocks[-1][1] >= total / size:
            total, size = total + blocks[-1][0], size + blocks[-1][1]
            blocks.pop()
        blocks.append((total, size))
    bases = [total / size for total, size in blocks for _ in range(size)]
    moved = [0.0] * count
    for place, index in enumerate(order):
        moved[index] = min(max(bases[place], low), high - (count - 1) * gap) + place * gap
    return moved
