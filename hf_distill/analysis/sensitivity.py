"""How much each parameter contributes: its sensitivity |θ · ∂L/∂θ|, first-order estimate of |L(θ) − L(θ = 0)|.

Source: Xu, Koehn and Murray 2022 (arXiv 2205.11416): the smaller the standard deviation over the parameters, the more
evenly they contribute.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from hf_distill.analysis.drawing import new_figure, save_figure, series_colour, series_line_style, style_axes

TOP = 0.2
"""Share of the parameters whose distribution is shown: the most sensitive fifth, as in the authors' pictures."""
_POINTS = 201


class ParameterSensitivity(NamedTuple):
    """|θ · ∂L/∂θ| of every parameter, averaged over batches.

    Shapes: each tensor that of its parameter; float32 (float64 for float64 parameters), on the parameter's device.
    """

    raw: dict[str, Tensor]
    """In the unit of the loss."""
    normalised: dict[str, Tensor]
    """Each batch divided by its own loss before averaging: comparable between models of different loss."""
    losses: tuple[float, ...]


class Spread(NamedTuple):
    """How sensitivity is spread over the parameters."""

    mean: float
    deviation: float
    """Population standard deviation over all parameters: the degree of contribution balance, lower is more even."""
    top_sum: float
    """Share of the whole sensitivity that the most sensitive parameters hold."""
    top_values: tuple[float, ...]
    """Sensitivity at evenly spaced ranks from the most sensitive parameter to the last of the top."""


class SensitivityInfo(NamedTuple):
    """The spread of a model's sensitivity, raw and loss-normalised.

    Report both: in a reproduction, raw deviations contradicted the balance that normalised ones showed, because a
    model with a smaller loss has smaller gradients everywhere.
    """

    parameters: int
    batches: int
    loss: float
    """Mean over the batches."""
    top: float
    raw: Spread
    normalised: Spread


def parameter_sensitivity(
    model: nn.Module, batches: Iterable[Any], loss: Callable[[Any], Tensor]
) -> ParameterSensitivity:
    """Measure every parameter's sensitivity, batch by batch.

    Gradients are taken anew for each batch (a reproduction that let them pile up got other numbers); the parameters'
    own `.grad` and `requires_grad` are left as they were. Parameters that the loss does not reach have sensitivity 0,
    and so has everything in a batch whose loss is 0. Tied parameters count once.

    Args:
        model: In eval mode, so that dropout does not add noise. Its parameters may be frozen.
        batches: The same ones for every model that is compared.
        loss: From a batch to the model's mean loss on it.

    Raises:
        ValueError: No batch, or a loss that is negative or not finite.
    """
    parameters = dict(model.named_parameters())
    raw = {name: _zeros(parameter) for name, parameter in parameters.items()}
    normalised = {name: _zeros(parameter) for name, parameter in parameters.items()}
    losses: list[float] = []
    with _gradients(parameters.values()):
        for batch in batches:
            value = loss(batch)
            losses.append(_checked(value.item(), len(losses)))
            gradients = torch.autograd.grad(value, list(parameters.values()), allow_unused=True)
            for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
                if gradient is not None and losses[-1] > 0:
                    found = (parameter.detach().to(raw[name]) * gradient.to(raw[name])).abs()
                    raw[name] += found
                    normalised[name] += found / losses[-1]
    if not losses:
        raise ValueError("no batch to measure sensitivity on: the data is empty")
    for of_all in (raw, normalised):
        for total in of_all.values():
            total /= len(losses)
    return ParameterSensitivity(raw, normalised, tuple(losses))


def sensitivity_info(sensitivity: ParameterSensitivity, *, top: float = TOP) -> SensitivityInfo:
    """Sum up how sensitivity is spread over all parameters of a model.

    Args:
        sensitivity: What `parameter_sensitivity` returned.
        top: Share of the parameters, the most sensitive ones, to look at closely.

    Raises:
        ValueError: `top` is no share.
    """
    if not 0 < top <= 1:
        raise ValueError(f"top: expected a share of the parameters in (0, 1], got {top}")
    return SensitivityInfo(
        parameters=sum(values.numel() for values in sensitivity.raw.values()),
        batches=len(sensitivity.losses),
        loss=math.fsum(sensitivity.losses) / len(sensitivity.losses),
        top=top,
        raw=_spread(list(sensitivity.raw.values()), top),
        normalised=_spread(list(sensitivity.normalised.values()), top),
    )


def plot_sensitivity(infos: Mapping[str, SensitivityInfo], path: str | Path) -> Path:
    """Draw the sensitivity of each model's most sensitive parameters, raw and loss-normalised, by rank.

    Args:
        infos: What `sensitivity_info` returned for each model, all with the same `top`.
        path: PNG file to write (1500 × 780 pixels).
    """
    figure = new_figure(1500, 780)
    left, right = figure.subplots(1, 2)
    _draw(left, {name: info.raw for name, info in infos.items()}, infos)
    _draw(right, {name: info.normalised for name, info in infos.items()}, infos)
    rank = "rank of the parameter, % of all"
    style_axes(left, title="Most sensitive parameters", x_label=rank, y_label="|θ · ∂L/∂θ|")
    style_axes(right, title="Divided by the loss", x_label=rank, y_label="|θ · ∂L/∂θ| / L")
    return save_figure(figure, path)


def _draw(axes: Axes, spreads: Mapping[str, Spread], infos: Mapping[str, SensitivityInfo]) -> None:
    for place, (name, spread) in enumerate(spreads.items()):
        points = len(spread.top_values)
        ranks = [100 * infos[name].top * point / max(points - 1, 1) for point in range(points)]
        look: dict[str, Any] = {"color": series_colour(place), "linestyle": series_line_style(place), "linewidth": 1.5}
        axes.plot(ranks, spread.top_values, label=f"{name} (deviation {spread.deviation:.2g})", **look)
    axes.set_yscale("log")
    axes.legend(frameon=False, fontsize=8)


def _spread(tensors: Sequence[Tensor], top: float) -> Spread:
    count = sum(values.numel() for values in tensors)
    total = math.fsum(values.sum(dtype=torch.float64).item() for values in tensors)
    mean = total / count
    squares = math.fsum((values.double() - mean).square().sum().item() for values in tensors)
    kept = max(round(top * count), 1)
    ranked = torch.cat([values.flatten() for values in tensors]).topk(kept).values.double()
    places = torch.linspace(0, kept - 1, min(_POINTS, kept), dtype=torch.float64).round().long()
    return Spread(
        mean=mean,
        deviation=math.sqrt(squares / count),
        top_sum=ranked.sum().item() / total if total > 0 else math.nan,
        top_values=tuple(ranked[places.to(ranked.device)].tolist()),
    )


@contextmanager
def _gradients(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let gradients flow to parameters, frozen ones too, and put everything back."""
    kept = [(parameter, parameter.requires_grad) for parameter in parameters]
    try:
        for parameter, _ in kept:
            parameter.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        for parameter, required in kept:
            parameter.requires_grad_(required)


def _zeros(parameter: nn.Parameter) -> Tensor:
    dtype = torch.float64 if parameter.dtype == torch.float64 else torch.float32
    return torch.zeros(parameter.shape, dtype=dtype, device=parameter.device)


def _checked(loss: float, batch: int) -> float:
    if not (math.isfinite(loss) and loss >= 0):
        raise ValueError(f"the loss of batch {batch} is {loss}; sensitivity needs finite losses of at least 0")
    return loss
