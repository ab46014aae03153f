"""Which engine left a checkpoint, on how many processes, and whether those of now can go on from it.

A student that is whole on every process leaves an optimizer that any number of them reads. DeepSpeed leaves a part of
it for each process; its own tool turns them into a checkpoint for any number ("universal"). FSDP writes it whole, or
in parts that any number reads, but each of the two in files of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator, DistributedType

WHOLE = "whole students"
WHOLE_STATES, IN_PARTS = "FULL_STATE_DICT", "SHARDED_STATE_DICT"
"""How FSDP writes weights and optimizer."""
PARTS = "pytorch_model_fsdp_0"
"""The folder of the weights' parts that FSDP writes with SHARDED_STATE_DICT."""
UNIVERSAL = "latest_universal"
"""What DeepSpeed's converter writes last, beside `latest`."""


class Launch(NamedTuple):
    """How a run was started.

    Attributes:
        engine: For people; `WHOLE` where every process has the whole student.
        processes: How many.
    """

    engine: str
    processes: int


def launch_of(accelerator: Accelerator) -> Launch:
    """Return how this run was started."""
    kind, engine = accelerator.distributed_type, WHOLE
    if kind == DistributedType.DEEPSPEED:
        engine = f"DeepSpeed ZeRO-{accelerator.state.deepspeed_plugin.zero_stage}"
    elif kind == DistributedType.FSDP:
        engine = f"FSDP{accelerator.state.fsdp_plugin.fsdp_version}"
    elif kind == DistributedType.MEGATRON_LM:
        engine = "Megatron"
    return Launch(engine, accelerator.num_processes)


def saves_parts(accelerator: Accelerator) -> bool:
    """Whether FSDP leaves weights and optimizer in parts, and transformers no `model.safetensors`."""
    plugin = accelerator.state.fsdp_plugin if accelerator.distributed_type == DistributedType.FSDP else None
    return plugin is not None and plugin.state_dict_type.name == IN_PARTS


def check_launch(before: Launch | None, accelerator: Accelerator, folder: Path) -> None:
    """Refuse a checkpoint that the engine of now would read in part only; let DeepSpeed read a converted one.

    Args:
        before: How the run that left it was started; None where it did not say.
        accelerator: Of this run. DeepSpeed's settings are told to read the converted checkpoint where it is needed.
        folder: The checkpoint.

    Raises:
        ValueError: Another engine, DeepSpeed on another number of processes without a converted checkpoint, or parts
            of FSDP where whole states would be read, or the other way round; the message says what to do.
    """
    now = launch_of(accelerator)
    if before is not None and before.engine != now.engine:
        raise ValueError(
            f"{folder} was saved with {_named(before)}, and optimizer states lie there as only that engine reads "
            f"them; this run has {_named(now)}. Resume with the launch configuration that the run was started with, "
            "or start a new run from its weights in another output_dir (student.model.pretrained: the checkpoint)"
        )
    if accelerator.distributed_type == DistributedType.FSDP and (folder / PARTS).is_dir() != saves_parts(accelerator):
        held, read = (WHOLE_STATES, IN_PARTS) if saves_parts(accelerator) else (IN_PARTS, WHOLE_STATES)
        raise ValueError(
            f"{folder} was saved with {held}, and this run would read {read}; set fsdp_state_dict_type: {held} in the "
            f"launch configuration, or state_dict_type: {held} in fsdp_config, as it was"
        )
    if before is None or before == now:
        return
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        if not (folder / UNIVERSAL).is_file():
            raise ValueError(
                f"{folder} was saved with {_named(before)}, a part of the optimizer's states for each, and this run "
                f"has {now.processes}. Convert it for any number of them, then start the same command again:\n"
                f"  {conversion(folder, now.engine)}\nOr start {before.processes} processes"
            )
        accelerator.state.deepspeed_plugin.deepspeed_config["checkpoint"] = {"load_universal": True}


def separate_step_counts(optimizer: torch.optim.Optimizer) -> None:
    """Give each state of an optimizer a step count of its own.

    ZeRO-3 reads a converted checkpoint's into one tensor for all groups of parameters, and PyTorch's optimizers add to
    it in place, once for each group.
    """
    for state in optimizer.state.values():
        if isinstance(state.get("step"), torch.Tensor):
            state["step"] = state["step"].clone()


def conversion(folder: Path, engine: str) -> str:
    """Return the command that converts a DeepSpeed checkpoint for any number of processes."""
    tag = (folder / "latest").read_text(encoding="utf-8").strip()
    # What the converter needs to know of pipelines and tensor parallelism, ZeRO-1 and 2 do not write by themselves.
    more = "" if engine.endswith("3") else " --inject_missing_state"
    return (
        f"python -m deepspeed.checkpoint.ds_to_universal --input_folder {folder / tag} --output_folder "
        f"{folder / tag}_universal{more}"
    )


def _named(launch: Launch) -> str:
    return f"{launch.engine} on {launch.processes} process{'es' if launch.processes > 1 else ''}"
