"""Which coordinates a network of sparse parity listens to: coordinate influence, and correlation with small products.

Source: Panigrahi et al. 2024 (arXiv 2410.05464) for the correlations; the influence of O'Donnell, "Analysis of Boolean
Functions", ch. 2, separates support and rest better. Shape legend: N examples, D coordinates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from hf_distill.analysis.drawing import (
    BAND_ALPHA,
    PALETTE,
    new_figure,
    save_figure,
    series_colour,
    step_axis,
    style_axes,
)

LogitDifference = Callable[[Tensor], Tensor]
"""From signs (N, D) to a score (N,): positive where the model votes for the product +1."""


class DegreeCorrelation(NamedTuple):
    """|E[f(x) ∏ xᵢ]| / sd(f) for subsets of `degree` coordinates; 1 means that f is that product."""

    degree: int
    inside: tuple[float, ...]
    """Of every subset of the support of this size."""
    outside: tuple[float, ...]
    """Of subsets without any coordinate of the support: all of them, or as many as asked for, drawn at random."""


class ParityInfluenceInfo(NamedTuple):
    """What a model of sparse parity listens to. A model with one score for all inputs has NaN throughout."""

    influence: tuple[float, ...]
    """E[(f(x) − f(x with i flipped))²] / (4 Var f) of each coordinate: 1 where every change of sign of xᵢ changes the
    sign of a ±1-valued f, 0 where f ignores it."""
    correlation: tuple[float, ...]
    """E[f(x) xᵢ] / sd(f) of each coordinate, with its sign."""
    degrees: tuple[DegreeCorrelation, ...]
    support: tuple[int, ...]
    accuracy: float
    """Share of the examples whose sign of f is the product over the support."""
    deviation: float
    """sd(f), in the unit of the logits."""
    examples: int

    @property
    def noise(self) -> float:
        """Standard deviation of a correlation that is 0 in truth: 1/√N, unless all 2^D inputs were given."""
        return 1.0 / math.sqrt(self.examples)

    @property
    def influence_inside(self) -> float:
        """Mean influence over the support."""
        return _mean([self.influence[index] for index in self.support])

    @property
    def influence_outside(self) -> float:
        """Mean influence over the other coordinates; NaN where there are none."""
        return _mean([value for index, value in enumerate(self.influence) if index not in self.support])

    @property
    def influence_ratio(self) -> float:
        """Mean influence in the support ÷ mean influence outside."""
        return _ratio(self.influence_inside, self.influence_outside)

    @property
    def correlation_ratio(self) -> float:
        """Mean |correlation| of degree 1 in the support ÷ the same outside. Noise keeps the latter above 0."""
        inside = _mean([abs(self.correlation[index]) for index in self.support])
        rest = [abs(value) for index, value in enumerate(self.correlation) if index not in self.support]
        return _ratio(inside, _mean(rest))


@torch.no_grad()
def parity_influence_info(
    difference: LogitDifference,
    signs: Tensor,
    support: Sequence[int],
    *,
    order: int = 1,
    outside_subsets: int = 100,
    seed: int = 0,
) -> ParityInfluenceInfo:
    """Measure influence and correlations of a function of signs.

    It costs D + 1 evaluations of `difference` on all examples. With all 2^D inputs as `signs` the values are exact.
    f is centred before it is correlated: the mean of f times the mean of a product is only noise.

    Args:
        difference: The model's logit of product +1 minus that of −1 (see `logit_difference`).
        signs: Inputs of ±1, uniform (see `uniform_signs`).
        support: Coordinates whose product is the label.
        order: Correlations with products of 1 to so many coordinates.
        outside_subsets: At most so many subsets outside of the support for each degree.
        seed: Draws those subsets.

    Shapes: signs (N, D).

    Raises:
        ValueError: No examples, a support outside of the coordinates, or an order beyond the support's size.

    Source: arXiv 2410.05464 correlates the probability of class 1 and does not normalise; dividing the logit
        difference by its deviation makes checkpoints of different confidence comparable.
    """
    support = sorted({int(index) for index in support})
    _check(signs, support, order)
    values_N = difference(signs).double().cpu()
    signs_ND = signs.double().cpu()
    centred_N = values_N - values_N.mean()
    variance = centred_N.square().mean().item()
    scaled_N = centred_N / math.sqrt(variance) if variance > 0 else torch.full_like(centred_N, math.nan)
    targets_N = signs_ND[:, support].prod(-1)
    rest = [index for index in range(signs.shape[1]) if index not in support]
    rng = np.random.default_rng(seed)
    return ParityInfluenceInfo(
        influence=tuple(_influence(difference, signs, values_N, index, variance) for index in range(signs.shape[1])),
        correlation=tuple((scaled_N @ signs_ND / len(signs_ND)).tolist()),
        degrees=tuple(
            DegreeCorrelation(
                degree,
                _correlations(scaled_N, signs_ND, list(combinations(support, degree))),
                _correlations(scaled_N, signs_ND, _subsets(rest, degree, most=outside_subsets, rng=rng)),
            )
            for degree in range(1, order + 1)
        ),
        support=tuple(support),
        accuracy=(values_N.sign() == targets_N).double().mean().item(),
        deviation=math.sqrt(variance),
        examples=len(signs_ND),
    )


def logit_difference(
    model: nn.Module, *, inputs: Literal["vector", "tokens"] = "vector", batch_size: int = 256
) -> LogitDifference:
    """Return a parity model as a function of signs: its logit of class 0 (product +1) minus that of class 1.

    Args:
        model: A classifier of two classes as the parity task builds it, in eval mode.
        inputs: "vector": it reads `inputs`, signs; "tokens": `input_ids`, where the bit 1 stands for −1.
        batch_size: Examples of one forward pass.
    """
    parameter = next(model.parameters())

    @torch.no_grad()
    def difference(signs_ND: Tensor) -> Tensor:
        parts = []
        for chunk in signs_ND.split(batch_size):
            on_device = chunk.to(parameter.device)
            if inputs == "tokens":
                logits = model(input_ids=((1 - on_device) / 2).long()).logits
            else:
                logits = model(inputs=on_device.to(parameter.dtype)).logits
            parts.append((logits[:, 0] - logits[:, 1]).cpu())
        return torch.cat(parts)

    return difference


def uniform_signs(examples: int, dimension: int, *, seed: int = 0) -> Tensor:
    """Return examples uniform in {−1, +1}^D, the same for a seed whatever was drawn before.

    Shapes: (examples, dimension), float32.
    """
    generator = torch.Generator().manual_seed(seed)
    return 1.0 - 2.0 * torch.randint(0, 2, (examples, dimension), generator=generator).float()


def plot_parity_influence(
    infos: Sequence[ParityInfluenceInfo], steps: Sequence[int], path: str | Path, *, title: str = "the teacher"
) -> Path:
    """Draw influence, correlations and accuracy over the steps of a model's revisions.

    Args:
        infos: What `parity_influence_info` returned for each revision; one that is NaN leaves a gap.
        steps: Training step of each revision.
        path: PNG file to write (1200 × 1050 pixels).
        title: Whose revisions these are.

    Raises:
        ValueError: Not one step for each revision, or no revision.
    """
    if len(infos) != len(steps) or not infos:
        raise ValueError(f"{len(infos)} revisions but {len(steps)} steps: give one of each, and at least one.")
    figure = new_figure(1200, 1050)
    above, middle, below = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 1.4))
    _draw_influence(above, infos, steps)
    style_axes(above, title=f"What {title} listens to: influence of a coordinate", y_label="influence, mean and range")
    _draw_correlations(middle, infos, steps)
    style_axes(middle, title="Correlation with products of coordinates", y_label="mean |correlation|")
    below.plot(steps, [info.accuracy for info in infos], "-o", color=PALETTE[2], markersize=3, linewidth=1.4)
    style_axes(below, title="Accuracy", x_label="training step", y_label="accuracy")
    step_axis(below)
    return save_figure(figure, path)


def _draw_influence(axes: Axes, infos: Sequence[ParityInfluenceInfo], steps: Sequence[int]) -> None:
    for inside, label in ((True, "in the support"), (False, "outside")):
        rows = [[v for i, v in enumerate(info.influence) if (i in info.support) == inside] for info in infos]
        if not rows[0]:
            continue
        colour = PALETTE[0] if inside else PALETTE[1]
        axes.fill_between(steps, [min(r) for r in rows], [max(r) for r in rows], color=colour, alpha=BAND_ALPHA, lw=0)
        axes.plot(steps, [_mean(row) for row in rows], "-o", color=colour, markersize=3, linewidth=1.6, label=label)
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)


def _draw_correlations(axes: Axes, infos: Sequence[ParityInfluenceInfo], steps: Sequence[int]) -> None:
    for place, of_degree in enumerate(zip(*(info.degrees for info in infos), strict=True)):
        colour, degree = series_colour(place), of_degree[0].degree
        axes.plot(
            steps, [_mean(x.inside) for x in of_degree], "-", color=colour, label=f"degree {degree}, in the support"
        )
        axes.plot(steps, [_mean(x.outside) for x in of_degree], ":", color=colour, label=f"degree {degree}, outside")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=7, ncols=2)


def _check(signs: Tensor, support: Sequence[int], order: int) -> None:
    if signs.dim() != 2 or not len(signs):
        raise ValueError(f"signs: expected examples of ±1 with shape (N, D) and N ≥ 1, got {tuple(signs.shape)}")
    if not support or support[0] < 0 or support[-1] >= signs.shape[1]:
        raise ValueError(f"support: expected coordinates from 0 to {signs.shape[1] - 1}, got {support or 'none'}")
    if not 1 <= order <= len(support):
        raise ValueError(f"order: expected 1 to {len(support)}, the size of the support, got {order}")


def _influence(difference: LogitDifference, signs: Tensor, values_N: Tensor, index: int, variance: float) -> float:
    flipped = signs.clone()
    flipped[:, index] *= -1
    moved = (values_N - difference(flipped).double().cpu()).square().mean().item()
    return moved / (4 * variance) if variance > 0 else math.nan


def _correlations(scaled_N: Tensor, signs_ND: Tensor, subsets: Sequence[tuple[int, ...]]) -> tuple[float, ...]:
    return tuple(abs((scaled_N * signs_ND[:, list(subset)].prod(-1)).mean().item()) for subset in subsets)


def _subsets(rest: Sequence[int], size: int, *, most: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    if math.comb(len(rest), size) <= most:
        return list(combinations(rest, size))
    drawn: dict[tuple[int, ...], None] = {}
    while len(drawn) < most:
        drawn[tuple(sorted(int(index) for index in rng.choice(rest, size, replace=False)))] = None
    return list(drawn)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else (math.inf if above > 0 and below == 0 else math.nan)
