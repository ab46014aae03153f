"""What a model can do without: its held-out metric while the least important weights are set to zero.

Global and unstructured, without retraining. Source: the pruning curves of Xu, Koehn and Murray 2022
(arXiv 2205.11416), where intra-distilled models fall faster, because their least sensitive weights matter too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from hf_distill.analysis.drawing import new_figure, save_figure, series_colour, series_line_style, style_axes

SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
# GPT-2 writes its linear layers as Conv1D, a transposed Linear.
_PRUNED_LAYERS = (nn.Linear, nn.Embedding, Conv1D)


class PruningCurveInfo(NamedTuple):
    """A metric over the share of weights set to zero."""

    shares: tuple[float, ...]
    pruned: tuple[int, ...]
    """Weights set to zero at each share."""
    prunable: int
    """Weights of the linear and embedding layers."""
    values: tuple[float, ...]


@torch.no_grad()
def pruning_curve_info(
    model: nn.Module,
    importance: Mapping[str, Tensor],
    evaluate: Callable[[], float],
    *,
    shares: Sequence[float] = SHARES,
) -> PruningCurveInfo:
    """Zero growing shares of the weights, least important first over all layers together, and evaluate each time.

    Weights of equal importance go in the order of the model. A weight whose importance is not finite is never pruned.
    Afterwards the model has its own weights again, bit for bit, also if `evaluate` fails.

    Args:
        model: Its linear and embedding weights are pruned; tied ones count once, biases and norms stay.
        importance: Of every parameter by name, such as `ParameterSensitivity.raw`.
        evaluate: Measures the model as it is now.
        shares: Of those weights to prune, rising.

    Raises:
        ValueError: Importance lacks a weight or has another shape, nothing can be pruned, or shares out of order.

    Source: the authors' follow-up code prunes biases too; we leave them, as pruning papers do.
    """
    if not shares or list(shares) != sorted(shares) or shares[0] < 0 or shares[-1] > 1:
        raise ValueError(f"shares: expected rising shares of the weights from 0 to 1, got {list(shares)}")
    weights = prunable_weights(model)
    order, most = _order(weights, importance)
    counts = [min(round(share * len(order)), most) for share in shares]
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    ranks = rank.split([weight.numel() for weight in weights.values()])
    values = []
    with _restored(weights) as originals:
        for count in counts:
            for name, of_weight in zip(weights, ranks, strict=True):
                keep = (of_weight >= count).view_as(originals[name]).to(originals[name].device)
                weights[name].copy_(torch.where(keep, originals[name], 0.0))
            values.append(float(evaluate()))
    return PruningCurveInfo(tuple(shares), tuple(counts), len(order), tuple(values))


def prunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights of linear and embedding layers by their parameter names; tied ones once.

    Raises:
        ValueError: The model has no such layer.
    """
    ids = {id(module.weight) for module in model.modules() if isinstance(module, _PRUNED_LAYERS)}
    found = {name: parameter for name, parameter in model.named_parameters() if id(parameter) in ids}
    if not found:
        raise ValueError(f"{type(model).__name__} has no linear or embedding layer to prune")
    return found


def plot_pruning_curve(infos: Mapping[str, PruningCurveInfo], path: str | Path, *, metric: str) -> Path:
    """Draw the metric of each model over the share of weights set to zero.

    Args:
        infos: What `pruning_curve_info` returned for each model.
        path: PNG file to write (1200 × 675 pixels).
        metric: What `evaluate` measured.
    """
    figure = new_figure(1200, 675)
    axes = figure.add_subplot()
    for place, (name, info) in enumerate(infos.items()):
        x = [100 * share for share in info.shares]
        look: dict[str, Any] = {"color": series_colour(place), "linestyle": series_line_style(place), "linewidth": 1.6}
        axes.plot(x, info.values, marker="o", markersize=3.5, label=name, **look)
    axes.legend(frameon=False, fontsize=8)
    title = "Without the least sensitive weights, not retrained"
    style_axes(axes, title=title, x_label="% of linear and embedding weights set to zero", y_label=metric)
    return save_figure(figure, path)


def _order(weights: Mapping[str, Tensor], importance: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    """Return all weights' flat places, least important first, and how many of them may be pruned."""
    for name, weight in weights.items():
        if name not in importance:
            raise ValueError(f"importance: has no {name!r}, whose weights are to be pruned")
        if importance[name].shape != weight.shape:
            given = tuple(importance[name].shape)
            raise ValueError(f"importance: {name!r} has shape {given}, the weight {tuple(weight.shape)}")
    flat = torch.cat([importance[name].detach().flatten().cpu() for name in weights])
    finite = flat.isfinite()
    order = torch.where(finite, flat, torch.inf).argsort(stable=True)
    return order, int(finite.sum())


@contextmanager
def _restored(weights: Mapping[str, nn.Parameter]) -> Iterator[dict[str, Tensor]]:
    """Hand out copies of the weights and write them back, in place, whatever happens."""
    originals = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        yield originals
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(originals[name])
