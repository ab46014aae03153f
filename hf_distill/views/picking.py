"""Which examples of several drawings of a view are kept: those with the largest scores.

Shape legend: B examples, T positions, R counted rows, V vocabulary or classes, P pools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hf_distill.loss.reduction import UNITS, Unit, count_items
from hf_distill.objectives import ForwardKL
from hf_distill.reading.signals import Head, Signals, at_least_float32
from hf_distill.views.stage_view import Criterion


def row_scores(signals: Signals, by: Criterion) -> Tensor:
    """Return the score of each counted row, in nats at temperature 1.

    Args:
        signals: With the logits of each model that is asked.
        by: What is asked.

    Shapes: logits (R, V) -> (R,).
    """
    if by == "kl":
        return ForwardKL().values(signals, temperature=1.0)
    logits_RV = signals.student_logits if by == "student_entropy" else signals.teacher_logits
    assert logits_RV is not None
    return entropy(logits_RV[:, : signals.shared_width])


def entropy(logits_RV: Tensor) -> Tensor:
    """Return −Σ p·log p of each row in nats; what has probability 0 adds 0. Shapes: (R, V) -> (R,)."""
    return torch.special.entr(at_least_float32(logits_RV).softmax(-1)).sum(-1)


def example_scores(values_R: Tensor, counted: Tensor | None) -> Tensor:
    """Return each example's mean over its counted rows, −∞ where it has none.

    Shapes: values (R,), counted (B,) or (B, T) with R marks, or None where every example counts -> (B,).
    """
    if counted is None:
        return values_R
    placed = torch.zeros(counted.shape, dtype=values_R.dtype, device=values_R.device)
    placed = placed.masked_scatter(counted, values_R).reshape(len(counted), -1)
    count_B = counted.reshape(len(counted), -1).sum(-1)
    return (placed.sum(-1) / count_B.clamp(min=1)).masked_fill(count_B == 0, -torch.inf)


def keep_largest(pools: Sequence[Mapping[str, Any]], scores: Sequence[Tensor]) -> dict[str, Any]:
    """Return the B examples with the largest scores of P batches of B, in their order; the first of equals.

    Shapes: scores P times (B,); each tensor of the batches that has B rows -> B rows. What has not is taken from the
    first batch.
    """
    examples = len(scores[0])
    kept = torch.cat(list(scores)).argsort(descending=True, stable=True)[:examples].sort().values
    chosen: dict[str, Any] = dict(pools[0])
    for key, value in pools[0].items():
        if isinstance(value, Tensor) and value.dim() and len(value) == examples:
            chosen[key] = torch.cat([pool[key] for pool in pools])[kept.to(value.device)]
    return chosen


def items_ratio(batch: Mapping[str, Any], picked: Mapping[str, Any], head: Head) -> dict[Unit, Tensor]:
    """Return for each unit the items of a batch ÷ those of what was picked.

    Other examples may have other numbers of counted positions; times this ratio, the picked ones weigh in the loss as
    much as the batch they come from, whose items are in the denominators.

    Shapes: scalars, on the batch's device.
    """
    ratio = count_items([batch], head) / count_items([picked], head).clamp(min=1)
    return {unit: ratio[index] for index, unit in enumerate(UNITS)}
