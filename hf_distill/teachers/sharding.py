"""Engines that split a model over ranks, which some teachers cannot work with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator, DistributedType
from torch import nn

from hf_distill.kernels.heads import SHARDED_BY_DEEPSPEED

SHARDING = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)


def refuse_sharding(accelerator: Accelerator | None, because: str) -> None:
    """Refuse an engine that splits models over ranks.

    Args:
        accelerator: Of the training, where there is one.
        because: Why the teacher needs whole models.

    Raises:
        ValueError: The engine is DeepSpeed, FSDP or Megatron.
    """
    if accelerator is not None and accelerator.distributed_type in SHARDING:
        raise ValueError(
            f"this teacher needs whole models on every rank ({because}), but {accelerator.distributed_type.value} "
            "splits them; train with DistributedDataParallel, without that engine, or use another teacher"
        )


def refuse_split_weights(model: nn.Module) -> None:
    """Refuse a teacher of which this rank holds a part only.

    Raises:
        ValueError: It was loaded while DeepSpeed's ZeRO-3 was on.
    """
    if any(SHARDED_BY_DEEPSPEED in vars(parameter) for parameter in model.parameters()):
        raise ValueError(
            "the teacher was loaded while ZeRO-3 was on, which splits whatever `from_pretrained` loads, but it runs "
            "on every rank by itself; load it before the training arguments are made, or pass its folder or id"
        )


@contextmanager
def loading_whole(accelerator: Accelerator | None) -> Iterator[None]:
    """Let `from_pretrained` load whole models, also where ZeRO-3 would split them over ranks."""
    plugin = accelerator.state.deepspeed_plugin if accelerator is not None else None
    if plugin is None or plugin.zero_stage != 3:
        yield
        return
    from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        set_hf_deepspeed_config(plugin.hf_ds_config)
