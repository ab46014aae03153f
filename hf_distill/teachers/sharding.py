"""Engines that split a model over ranks, which some teachers cannot work with."""

from __future__ import annotations

from accelerate import Accelerator, DistributedType

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
