"""How long a model takes for a batch: the median of repeated forwards after a warm-up, with its spread.

Shape legend: B examples, T positions.
"""

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

from hf_distill.models.inputs import in_weights_format, model_inputs
from hf_distill.reading.signals import TARGET_KEYS
from hf_distill.teachers.sharding import whole_numel


def latency_info(
    model: nn.Module, batch: Mapping[str, Any], *, warmup: int = 3, repeats: int = 15, device: str | None = None
) -> dict[str, Any]:
    """Time a model's forward, without gradients and in eval mode; its mode is put back afterwards.

    Compare it only between models timed on one machine, on the same batch and one right after the other.

    Args:
        model: Any model whose forward takes the batch's entries by name.
        batch: Inputs by name; labels and what the forward does not take are left out, but for a decoder, which reads
            the labels shifted right. Tensors are moved to the model's device.
        warmup: Forwards that are not counted: the first ones allocate and choose kernels.
        repeats: Forwards that are counted.
        device: Name for the record. Default: the device's type.

    Returns:
        `median_seconds`, `low_seconds` and `high_seconds` (smallest and largest), `quartile_seconds` (first and
        third), `repeats`, `examples` of the batch, `device`, and `weight_bytes` of all parameters, on all ranks
        together where an engine splits them.

    Raises:
        ValueError: The batch holds no tensor for the model, or repeats is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected a whole number from 1 on, got {repeats}")
    place = next(model.parameters()).device
    accepted = accepted_names(model) - TARGET_KEYS
    given = {key: item.to(place) if isinstance(item, Tensor) else item for key, item in batch.items()}
    if "decoder_input_ids" in accepted and "labels" in given:
        given = model_inputs("seq2seq_lm", given, model)
    inputs = in_weights_format({key: item for key, item in given.items() if key in accepted}, model)
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
        "quartile_seconds": _quartiles(seconds),
        "repeats": repeats,
        "examples": int(shapes[0][0]),
        "device": device or place.type,
        "weight_bytes": sum(whole_numel(parameter) * parameter.element_size() for parameter in model.parameters()),
    }


def first_example(batches: Iterable[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Return the first example of a data loader as a batch of one: what a user waits for."""
    return {key: item[:1] for key, item in next(iter(batches)).items() if isinstance(item, Tensor)}


def sized_batch(batch: Mapping[str, Any], *, batch_size: int, length: int | None = None) -> dict[str, Tensor]:
    """Return real examples as a batch of a given size, its texts of a given length, without padding.

    Examples, and the attended tokens of each, come again from the beginning where there are too few.

    Args:
        batch: A collated batch. Texts have `input_ids` (B, T), and `attention_mask` where they are padded; a sequence
            to answer with is in `labels` and `decoder_...`.
        batch_size: Examples wanted.
        length: Tokens wanted of each text, and of each sequence to answer with; None keeps them and their padding.

    Raises:
        ValueError: A length is wanted and the batch holds no `input_ids`, or no tensor.
    """
    tensors = {key: item for key, item in batch.items() if isinstance(item, Tensor) and item.dim()}
    if not tensors:
        raise ValueError(f"the batch holds no tensor, only {sorted(batch)}")
    examples = len(next(iter(tensors.values())))
    chosen = torch.arange(batch_size) % examples
    sized = {key: item[chosen.to(item.device)] for key, item in tensors.items()}
    if length is None:
        return sized
    if "input_ids" not in sized:
        raise ValueError(
            f"length: these examples have no tokens (their tensors: {', '.join(sorted(sized))}), so that there is no "
            "length to choose; leave it out"
        )
    texts = _columns(sized.get("attention_mask", torch.ones_like(sized["input_ids"])), length)
    answers = _columns(sized["labels"] >= 0, length) if _is_sequence(sized.get("labels")) else texts
    read = sized["input_ids"].shape
    found = {}
    for key, item in sized.items():
        columns = texts if item.shape == read and not key.startswith(("labels", "decoder_")) else answers
        found[key] = item.gather(1, columns.to(item.device)) if _is_sequence(item) else item
    return found


def accepted_names(model: nn.Module) -> frozenset[str]:
    """Return what a model's forward takes by name, seen through the wrappers of Accelerate and PEFT."""
    inner = extract_model_from_parallel(model)
    if not isinstance(inner, PreTrainedModel):
        inner = inner.get_submodule("base_model.model") if "base_model" in dict(inner.named_children()) else inner
    return frozenset(inspect.signature(inner.forward).parameters)


def _quartiles(seconds: list[float]) -> list[float]:
    if len(seconds) == 1:
        return seconds * 2
    first, _, third = statistics.quantiles(seconds, n=4, method="inclusive")
    return [first, third]


def _is_sequence(item: Tensor | None) -> bool:
    return item is not None and item.dim() == 2


def _columns(counts: Tensor, length: int) -> Tensor:
    """Return `length` places of each row that count, from the beginning again where there are fewer.

    Shapes: (B, T) -> (B, length).
    """
    rows = []
    for row in counts:
        places = row.nonzero().flatten()
        places = places if len(places) else torch.arange(len(row))
        rows.append(places[torch.arange(length, device=places.device) % len(places)])
    return torch.stack(rows)


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
