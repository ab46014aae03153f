"""How long a model takes for a batch: the median of repeated forwards after a warm-up, with its spread."""

from __future__ import annotations

import inspect
import statistics
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from accelerate.utils import extract_model_from_parallel
from torch import Tensor, nn
from transformers import PreTrainedModel


def latency_info(
    model: nn.Module, batch: Mapping[str, Any], *, warmup: int = 3, repeats: int = 15, device: str | None = None
) -> dict[str, Any]:
    """Time a model's forward, without gradients and in eval mode; its mode is put back afterwards.

    Compare it only between models timed on one machine, on the same batch and one right after the other.

    Args:
        model: Any model whose forward takes the batch's entries by name.
        batch: Inputs by name; labels and what the forward does not take are left out. Tensors are moved to the
            model's device.
        warmup: Forwards that are not counted: the first ones allocate and choose kernels.
        repeats: Forwards that are counted.
        device: Name for the record. Default: the device's type.

    Returns:
        `median_seconds`, `low_seconds` and `high_seconds` (smallest and largest), `repeats`, `examples` of the batch,
        `device`, and `weight_bytes` of all parameters as they are in memory.

    Raises:
        ValueError: The batch holds no tensor for the model, or repeats is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected a whole number from 1 on, got {repeats}")
    place = next(model.parameters()).device
    accepted = accepted_names(model)
    inputs = {
        key: item.to(place) if isinstance(item, Tensor) else item
        for key, item in batch.items()
        if key in accepted and key != "labels"
    }
    shapes = [item.shape for item in inputs.values() if isinstance(item, Tensor)]
    if not shapes:
        raise ValueError(f"the batch holds no tensor that {type(model).__name__} takes, only {sorted(batch)}")
    trains = model.training
    model.eval()
    try:
        with torch.no_grad():
            seconds = [_timed(model, inputs, place) for _ in range(warmup + repeats)][warmup:]
    finally:
        model.train(trains)
    return {
        "median_seconds": statistics.median(seconds),
        "low_seconds": min(seconds),
        "high_seconds": max(seconds),
        "repeats": repeats,
        "examples": int(shapes[0][0]),
        "device": device or place.type,
        "weight_bytes": sum(parameter.numel() * parameter.element_size() for parameter in model.parameters()),
    }


def first_example(batches: Iterable[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Return the first example of a data loader as a batch of one: what a user waits for."""
    return {key: item[:1] for key, item in next(iter(batches)).items() if isinstance(item, Tensor)}


def accepted_names(model: nn.Module) -> frozenset[str]:
    """Return what a model's forward takes by name, seen through the wrappers of Accelerate and PEFT."""
    inner = extract_model_from_parallel(model)
    if not isinstance(inner, PreTrainedModel):
        inner = inner.get_submodule("base_model.model") if "base_model" in dict(inner.named_children()) else inner
    return frozenset(inspect.signature(inner.forward).parameters)


def _timed(model: nn.Module, inputs: Mapping[str, Any], place: torch.device) -> float:
    _wait_for(place)
    started = time.perf_counter()
    model(**inputs)
    _wait_for(place)
    return time.perf_counter() - started


def _wait_for(place: torch.device) -> None:
    # Kernels run on behind Python's back; on a CPU there is nothing to wait for.
    if place.type != "cpu":
        torch.accelerator.synchronize(place)
