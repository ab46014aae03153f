"""Out of memory, said so that one knows what to change: in which part of a step, which class of tensors is largest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor
from torch.distributed.fsdp import CPUOffloadPolicy
from transformers import PreTrainedModel

from hf_distill.loss.reduction import UNITS, count_items
from hf_distill.models.compatibility import unwrap_peft
from hf_distill.reading.signals import TOKEN_HEADS
from hf_distill.teachers.base import unwrapped

if TYPE_CHECKING:
    from hf_distill.faults.guarded_training import GuardedTraining

PARTS = {
    "hf_distill.reading.signal_reader.forward": "the student's forward",
    "hf_distill.teachers.": "the teacher's forward",
    "hf_distill.kernels.": "the head and the divergences",
    "accelerate.accelerator.backward": "the backward",
    "torch.optim.": "the optimizer's step, whose states are made in the first one",
    "deepspeed.ops.": "the optimizer's step, whose states are made in the first one",
    "transformers.trainer.evaluation_loop": "the evaluation",
    "transformers.trainer._prepare_for_training": "the placing of the student",
}
"""What functions of the traceback stand for; the innermost one counts."""


class OutOfMemory(RuntimeError):
    """A device's memory did not suffice."""


@contextmanager
def memory_explained(trainer: GuardedTraining) -> Iterator[None]:
    """Explain what ran out of memory inside of the context.

    Raises:
        OutOfMemory: With where it was, what a step holds by an estimate, and what makes the largest of it smaller.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemory(explain(trainer, error)) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is an allocator's, of a GPU or of the CPU."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    )


def explain(trainer: GuardedTraining, error: BaseException) -> str:
    """Return what is known of an allocation that failed, for people."""
    lines = [f"out of memory in {part_of(error)}, at step {trainer.state.global_step}: {_first_line(error)}"]
    inputs = trainer.last_inputs
    memory = _estimate(trainer, inputs) if inputs is not None else []
    if memory:
        parts = ", ".join(f"{line.name} {line.size / 1e9:.2f} GB" for line in memory)
        lines += [f"A step holds, by an estimate: {parts}.", f"To make the largest part smaller: {memory[0].fix}."]
    lines.append("Which launch configuration splits what over several devices: recipes/accelerate/README.md")
    return "\n".join(lines)


def part_of(error: BaseException) -> str:
    """Return the part of a step that an error comes from."""
    part = "training"
    for frame, _ in walk_tb(error.__traceback__):
        name = f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"
        part = next((what for begins, what in PARTS.items() if name.startswith(begins)), part)
    return part


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def _estimate(trainer: GuardedTraining, inputs: Mapping[str, Any]) -> list[Any]:
    from hf_distill.planning.engines import ENGINES
    from hf_distill.planning.memory import BatchShape, dense_head_bytes, step_memory, tiled_head_bytes
    from hf_distill.planning.model_size import model_size
    from hf_distill.planning.model_states import step_settings

    student = unwrap_peft(unwrapped(trainer.model))
    teacher = trainer.distillation.teacher
    inner = unwrapped(teacher.model) if teacher is not None else None
    counts = dict(zip(UNITS, count_items([inputs], trainer.distillation.head).tolist(), strict=True))
    first = next(value for value in inputs.values() if isinstance(value, Tensor))
    shape = BatchShape(
        examples=counts["example"],
        tokens=counts["token"],
        positions=inputs["input_ids"].numel() if "input_ids" in inputs else len(first),
        rows=counts["label"],
    )
    sizes = model_size(student), model_size(inner) if isinstance(inner, PreTrainedModel) else None
    tiled = trainer.distillation.head in TOKEN_HEADS and not trainer.distillation.reader.whole_logits
    head = tiled_head_bytes(*sizes, shape, budget=2**28) if tiled else dense_head_bytes(*sizes, shape)
    engine = ENGINES.get(engine_name(trainer.accelerator), ENGINES["single"])
    gpus = trainer.accelerator.num_processes
    return step_memory(*sizes, step_settings(trainer.args), shape, head=head, engine=engine, gpus=gpus)


def engine_name(accelerator: Accelerator) -> str:
    """Return the name that the planner has for the engine of a training."""
    state, kind = accelerator.state, accelerator.distributed_type
    if kind == DistributedType.DEEPSPEED:
        zero = state.deepspeed_plugin.deepspeed_config["zero_optimization"]
        lent = zero.get("offload_optimizer", {}).get("device", "none") != "none"
        return f"zero{zero['stage']}{'_offload' if lent else ''}"
    if kind == DistributedType.FSDP:
        return f"fsdp2{'_offload' if isinstance(state.fsdp_plugin.cpu_offload, CPUOffloadPolicy) else ''}"
    return "ddp" if accelerator.num_processes > 1 else "single"
