"""The only denominators: sums over an accumulation window on all ranks, counted before the first forward.

Objectives return unreduced values; a term's sum is divided by the items of the whole window over all ranks, so that
the same examples split as 8x1, 2x4 or 1x8, or over two ranks, give the same update.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from hf_distill.reading.signals import Head, counted_positions

Unit = Literal["label", "token", "example", "batch"]

UNITS: tuple[Unit, ...] = ("label", "token", "example", "batch")


def count_items(batches: Iterable[Mapping[str, Any]], head: Head) -> Tensor:
    """Count the items of an accumulation window on this rank, in the order of `UNITS`, without leaving the device.

    *label*: what `counted_positions` counts. *token*: attended positions; examples where the batch has none (see
    `examples_are_tokens`). *example*: rows of the batch. *batch*: micro-batches.

    Args:
        batches: The micro-batches of the window.
        head: The kind of head.

    Shapes: returns (4,) int64.

    Raises:
        ValueError: As in `counted_positions`.
    """
    counted = [_count_batch(batch, head) for batch in batches]
    return torch.stack(counted).sum(0) if counted else torch.zeros(len(UNITS), dtype=torch.int64)


def examples_are_tokens(batch: Mapping[str, Any]) -> bool:
    """Whether an example counts as one token: it has no token ids and no attention mask (an image, a vector).

    How many positions an image has is up to each layer; where they are compared, an example's value is their mean.
    """
    return batch.get("attention_mask") is None and batch.get("input_ids") is None


def _count_batch(batch: Mapping[str, Any], head: Head) -> Tensor:
    first = next(value for value in batch.values() if isinstance(value, Tensor))
    examples, device = first.shape[0], first.device
    counted, attended = counted_positions(head, batch), batch.get("attention_mask")
    labelled = counted.sum() if counted is not None else examples
    if examples_are_tokens(batch):
        tokens = examples
    else:
        tokens = attended.sum() if attended is not None else batch["input_ids"].numel()
    counts = [torch.as_tensor(count, device=device, dtype=torch.int64) for count in (labelled, tokens, examples, 1)]
    return torch.stack(counts)


def denominators(counts: Tensor) -> dict[Unit, Tensor]:
    """Return each unit's denominator, at least 1 so that a window without labels gives 0 and not NaN.

    Shapes: counts (4,) -> scalars, float32.
    """
    safe = counts.clamp(min=1).to(torch.float32)
    return {unit: safe[index] for index, unit in enumerate(UNITS)}


def reduce_values(values: Tensor, denominator: Tensor) -> Tensor:
    """Return sum(values) / denominator in float32 (float64 stays); 0 with a gradient path where `values` is empty.

    Shapes: values (items,) -> scalar.
    """
    return values.sum() / denominator.to(values.device, values.dtype)
