"""T. stddev: how much the teacher's mean answer wanders from step to step, to rank augmentations without a student.

Source: Wang et al. 2020, v2 (arXiv 2012.02909): the smaller, the more different views a step has, and the smaller the
student's test loss tends to be.

Shape legend: S steps, R counted rows, V classes or vocabulary, N blocks of steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from hf_distill.analysis.drawing import INK, MUTED, new_figure, save_figure, series_colour, style_axes
from hf_distill.reading.signals import at_least_float32

BLOCK = 5
"""Steps that are averaged first; the authors' number, which they chose by trying."""


class ViewSpreadInfo(NamedTuple):
    """The spread of the teacher's mean probabilities under an augmentation."""

    spread: float
    """T. stddev: the standard deviation over blocks of steps, averaged over classes. It falls with batch size and
    block length: compare it only for one teacher on the same data, steps, batch size and block. An augmentation that
    leaves nothing of the input makes the answers steady too, and teaches nothing."""
    error: float
    """Its standard error, by leaving out one block after the other."""
    blocks: int
    block: int


def mean_probabilities(logits_RV: Tensor) -> Tensor:
    """Return the teacher's mean probabilities in one step.

    Shapes: (R, V) -> (V,), float64, on the CPU.

    Raises:
        ValueError: There is no row.
    """
    if not len(logits_RV):
        raise ValueError("this step has no counted row, so the teacher has no mean answer in it")
    return at_least_float32(logits_RV).softmax(-1).mean(0, dtype=torch.float64).cpu()


def view_spread_info(means_SV: Sequence[Tensor] | Tensor, *, block: int = BLOCK) -> ViewSpreadInfo:
    """Sum up how the teacher's mean probabilities vary between blocks of steps.

    The standard deviation is that of the blocks themselves, divided by their number (the source does not say).

    Args:
        means_SV: What `mean_probabilities` returned, step by step.
        block: Steps averaged to one value; steps left over at the end are not used.

    Shapes: means (S, V).

    Raises:
        ValueError: Fewer than two blocks.
    """
    means = torch.stack(list(means_SV)).double()
    blocks = len(means) // block if block > 0 else 0
    if blocks < 2:
        raise ValueError(f"{len(means)} steps make {blocks} blocks of {block}, and two are needed; take more steps")
    means_NV = means[: blocks * block].reshape(blocks, block, -1).mean(1)
    # Around their mean, so that squares of nearly equal numbers are not subtracted.
    means_NV = means_NV - means_NV.mean(0)
    squares_V = means_NV.square().sum(0)
    left_NV = (squares_V - means_NV.square()) / (blocks - 1) - (means_NV / (blocks - 1)).square()
    without_N = left_NV.clamp(min=0).sqrt().mean(1)
    error = math.sqrt((blocks - 1) / blocks * (without_N - without_N.mean()).square().sum().item())
    return ViewSpreadInfo((squares_V / blocks).sqrt().mean().item(), error, blocks, block)


def plot_view_spread(infos: Mapping[str, ViewSpreadInfo], path: str | Path, *, marked: Sequence[str] = ()) -> Path:
    """Draw the spread under each augmentation with its standard error, the smallest on top.

    Args:
        infos: What `view_spread_info` returned for each augmentation.
        path: PNG file to write (1100 pixels wide, 60 for each augmentation and 150 beside).
        marked: Those drawn in colour: the recipe's.
    """
    figure = new_figure(1100, 60 * len(infos) + 150)
    axes = figure.subplots()
    names = sorted(infos, key=lambda name: infos[name].spread, reverse=True)
    for place, name in enumerate(names):
        colour = series_colour(0) if name in marked else MUTED
        axes.errorbar(infos[name].spread, place, xerr=infos[name].error, fmt="o", color=colour, capsize=3)
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(-0.6, len(names) - 0.4)
    label = "T. stddev of the teacher's mean probabilities ± standard error (smaller is better)"
    style_axes(axes, title="How steady the teacher's answers are under each augmentation", x_label=label)
    return save_figure(figure, path)
