"""What a model costs: its shape, and how long it takes for batches of given sizes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from hf_distill.analysis.latency import latency_info, sized_batch
from hf_distill.evaluation.record import EvaluationSettings, Timing
from hf_distill.tasks.model_building import config_value

# What a configuration says beside the architecture.
_NOT_SHAPE = (
    "_name_or_path",
    "architectures",
    "bos_token_id",
    "eos_token_id",
    "finetuning_task",
    "id2label",
    "label2id",
    "pad_token_id",
    "problem_type",
    "transformers_version",
)


def parameters_of(model: nn.Module) -> int:
    """Return the number of a model's parameters; tied ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def shape_of(model: Any) -> str:
    """Return a hash of what decides a model's cost: its class, configuration, and parameters' sizes and types."""
    config = {key: value for key, value in model.config.to_dict().items() if key not in _NOT_SHAPE}
    sizes = [(name, str(one.dtype), list(one.shape)) for name, one in model.named_parameters()]
    text = json.dumps([type(model).__name__, config, sizes], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def timings_of(
    model: Any, batch: Mapping[str, Any], settings: EvaluationSettings, *, shape: str, name: str
) -> list[Timing]:
    """Time a model at every batch size.

    Args:
        model: On its device.
        batch: A collated batch of real examples.
        settings: Sizes, length, repetitions.
        shape: Of the model.
        name: Of the model, for people.

    Raises:
        ValueError: The model has fewer positions than `length`, or the examples have no length to choose.
    """
    positions = config_value(model.config, "max_position_embeddings")
    if settings.length is not None and isinstance(positions, int) and positions < settings.length:
        raise ValueError(
            f"length: {name} reads {positions} positions, but {settings.length} are asked for; give --length "
            f"{positions} or less"
        )
    return [_timing(model, batch, size, settings, shape=shape, name=name) for size in settings.batch_sizes]


def _timing(
    model: Any, batch: Mapping[str, Any], size: int, settings: EvaluationSettings, *, shape: str, name: str
) -> Timing:
    sized = sized_batch(batch, batch_size=size, length=settings.length)
    info = latency_info(model, sized, warmup=settings.warmup, repeats=settings.repeats)
    ids = sized.get("input_ids")
    return Timing(
        shape=shape,
        model=name,
        batch_size=size,
        length=int(ids.shape[1]) if ids is not None and ids.dim() == 2 else None,
        repeats=settings.repeats,
        quartile_seconds=tuple(info["quartile_seconds"]),
        **{key: info[key] for key in ("median_seconds", "low_seconds", "high_seconds")},
    )


def timing_environment(device: torch.device) -> dict[str, Any]:
    """Return where timings are made: they can be compared only where all of it is equal."""
    named = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": named, "torch_threads": torch.get_num_threads(), "torch": torch.__version__}
