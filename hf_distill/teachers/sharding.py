"""Engines that split a model over ranks: which some teachers and curricula cannot work with, and others follow."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from accelerate import Accelerator, DeepSpeedPlugin, DistributedType
from accelerate.utils import disable_fsdp_ram_efficient_loading, enable_fsdp_ram_efficient_loading
from torch import Tensor, nn

from hf_distill.kernels.heads import SHARDED_BY_DEEPSPEED
from hf_distill.teachers.split_fsdp2 import SplitByFsdp2
from hf_distill.teachers.split_model import SplitModel
from hf_distill.teachers.split_zero3 import SplitByZero3

logger = logging.getLogger(__name__)

SHARDING = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)


def refuse_sharding(accelerator: Accelerator | None, because: str, *, what: str = "teacher") -> None:
    """Refuse an engine that splits models, or their optimizer, over ranks.

    Args:
        accelerator: Of the training, where there is one.
        because: Why whole models are needed.
        what: What needs them, as people call it.

    Raises:
        ValueError: The engine is DeepSpeed, FSDP or Megatron.
    """
    if accelerator is not None and accelerator.distributed_type in SHARDING:
        raise ValueError(
            f"this {what} needs whole models on every rank ({because}), but {accelerator.distributed_type.value} "
            "splits them or their optimizer; train with DistributedDataParallel, without that engine, or use another "
            f"{what}"
        )


def refuse_split_weights(model: nn.Module) -> None:
    """Refuse a teacher of which this rank holds a part only.

    Raises:
        ValueError: It was loaded while DeepSpeed's ZeRO-3 was on.
    """
    if is_in_pieces(model):
        raise ValueError(
            "the teacher was loaded while ZeRO-3 was on, which splits whatever `from_pretrained` loads, but it runs "
            "on every rank by itself; load it before the training arguments are made, pass its folder or id, or leave "
            "it split with `LiveTeacher(..., sharded=True)`"
        )


def is_in_pieces(model: nn.Module) -> bool:
    """Whether DeepSpeed's ZeRO-3 has split a model: only its engine can then call it."""
    return any(SHARDED_BY_DEEPSPEED in vars(parameter) for parameter in model.parameters())


def splits_weights(accelerator: Accelerator) -> bool:
    """Whether the engine of a training splits the student's weights in a way that the teacher's can be split in too.

    Raises:
        ValueError: It is FSDP1 or Megatron.
    """
    engine = accelerator.distributed_type
    if engine == DistributedType.DEEPSPEED:
        return accelerator.state.deepspeed_plugin.zero_stage == 3
    version = accelerator.state.fsdp_plugin.fsdp_version if engine == DistributedType.FSDP else None
    if version == 1 or engine == DistributedType.MEGATRON_LM:
        raise ValueError(
            f"a sharded teacher is split by FSDP2 or by DeepSpeed's ZeRO-3, and not by "
            f"{'FSDP1' if version == 1 else engine.value}; set fsdp_version: 2, or leave `sharded` out"
        )
    return version is not None


def split_over_ranks(model: nn.Module, accelerator: Accelerator) -> SplitModel | None:
    """Split a frozen teacher as the student is split; None, and a line in the log, where the student stays whole.

    Raises:
        ValueError: The engine splits models in a way that a teacher cannot follow.
    """
    if not splits_weights(accelerator):
        logger.warning(
            "sharded: the student is whole on every rank (%s), and so is the teacher; launch with ZeRO-3 or FSDP2 to "
            "split both, or leave `sharded` out",
            accelerator.distributed_type.value,
        )
        return None
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        return SplitByZero3(model, accelerator)
    # For its autocast; FSDP2 moves what it splits to the device itself.
    return SplitByFsdp2(accelerator.prepare_model(model, device_placement=False, evaluation_mode=True), accelerator)


def whole_numel(parameter: Tensor) -> int:
    """Return the number of numbers of a parameter on all ranks together."""
    return int(vars(parameter).get("ds_numel", parameter.numel()))


@contextmanager
def loading_whole(accelerator: Accelerator | None) -> Iterator[None]:
    """Let `from_pretrained` load whole models on every rank.

    ZeRO-3 would split them, and FSDP's `cpu_ram_efficient_loading` would leave them empty on all ranks but the first.
    """
    if accelerator is None:
        yield
    elif accelerator.distributed_type == DistributedType.DEEPSPEED:
        with _without_zero3(accelerator.state.deepspeed_plugin):
            yield
    elif (
        accelerator.distributed_type == DistributedType.FSDP
        and accelerator.state.fsdp_plugin.cpu_ram_efficient_loading
    ):
        disable_fsdp_ram_efficient_loading()
        try:
            yield
        finally:
            enable_fsdp_ram_efficient_loading()
    else:
        yield


@contextmanager
def _without_zero3(plugin: DeepSpeedPlugin) -> Iterator[None]:
    if plugin.zero_stage != 3:
        yield
        return
    from transformers.integrations.deepspeed import set_hf_deepspeed_config, unset_hf_deepspeed_config

    unset_hf_deepspeed_config()
    try:
        yield
    finally:
        set_hf_deepspeed_config(plugin.hf_ds_config)
