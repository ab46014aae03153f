"""What a step holds in memory on one device, from sizes and batch: formulas, no measurement.

Shape legend: B examples of a micro-batch, T positions, R labelled rows, V vocabulary or classes, H width of the head's
input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hf_distill.planning.engines import ENGINES, Engine
from hf_distill.planning.model_size import ModelSize
from hf_distill.planning.model_states import MemoryLine, StepSettings, state_lines

ACTIVATIONS_PER_WIDTH = 34
"""Bytes of 16 bit activations that a layer keeps per position and width, attention matrices left out (2205.05198)."""


@dataclass(frozen=True, kw_only=True)
class BatchShape:
    """One micro-batch on one device.

    Attributes:
        examples: B.
        tokens: Attended positions.
        positions: B · T with padding.
        rows: R, the rows that the loss looks at.
    """

    examples: int
    tokens: int
    positions: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class TeacherCall:
    """How the teacher is asked.

    Attributes:
        window: Micro-batches whose rows are kept at a time; 1 where each is answered by itself.
        together: Micro-batches of one call.
        lent: Its weights lie in CPU memory between calls.
        ranks: Over which its weights are split.
        first: It is asked before the student's forward, about rows in front of a vocabulary's head; else behind it.
    """

    window: int = 1
    together: int = 1
    lent: bool = False
    ranks: int = 1
    first: bool = True

    def calls(self, micro_batches: int) -> list[int]:
        """Return the micro-batches of each call of a step, ⌈A / together⌉ calls for A micro-batches."""
        whole, rest = divmod(micro_batches, self.together)
        return [self.together] * whole + ([rest] if rest else [])


def teacher_call(
    settings: StepSettings,
    shape: BatchShape,
    *,
    lent: bool = False,
    ranks: int = 1,
    first: bool = True,
    joins: bool = True,
) -> TeacherCall:
    """Return how the teacher is asked about micro-batches of a shape.

    Args:
        settings: Say whether there is one call for all of a step.
        shape: Of a micro-batch.
        lent: Its weights lie in CPU memory between calls.
        ranks: Over which its weights are split.
        first: It is asked before the student's forward.
        joins: Whether the engine and the objectives let micro-batches be answered together (`TeacherWindow`).
    """
    call = TeacherCall(lent=lent, ranks=ranks, first=first)
    if not settings.window or not joins or ranks > 1:
        return call
    window, most = settings.accumulation, settings.window_examples
    together = window if most is None else min(window, max(1, most // shape.examples))
    return replace(call, window=window, together=together)


def step_memory(
    student: ModelSize,
    teacher: ModelSize | None,
    settings: StepSettings,
    shape: BatchShape,
    *,
    head: int,
    call: TeacherCall = TeacherCall(),
    engine: Engine = ENGINES["single"],
    gpus: int = 1,
) -> list[MemoryLine]:
    """Return what a training step holds at its peak on each GPU, largest class first.

    Weights, gradients and optimizer states are exact for one process without an engine; activations are the estimate
    of Korthikanti et al. 2022 (arXiv 2205.05198) without attention matrices, which fused attention does not keep.

    Args:
        student: Its size.
        teacher: Its size, or None.
        settings: Optimizer, number format and activation checkpointing.
        shape: Of a micro-batch.
        head: Bytes that the heads' outputs take, see `dense_head_bytes` and `tiled_head_bytes`.
        call: How the teacher is asked.
        engine: How the student is spread.
        gpus: Over so many.
    """
    activations = _activation_bytes(student, settings, shape)
    lines = [
        *state_lines(student, settings, engine, gpus=gpus),
        MemoryLine(
            name="activations of the student",
            size=activations,
            fix="a smaller per_device_train_batch_size with more gradient_accumulation_steps, activation_checkpointing"
            ", or bf16",
        ),
        MemoryLine(
            name="head: logits, divergences and their gradients",
            size=head,
            fix="a smaller per_device_train_batch_size with more gradient_accumulation_steps",
        ),
    ]
    if teacher is not None:
        lines += (
            [_split_teacher(teacher, call, engine)]
            if call.ranks > 1
            else _teacher_lines(teacher, shape, call, activations=activations, head=head)
        )
    return sorted((line for line in lines if line.size), key=lambda line: -line.size)


def _split_teacher(teacher: ModelSize, call: TeacherCall, engine: Engine) -> MemoryLine:
    if engine.deepspeed:
        whole = engine.gathered(teacher)
    else:
        # FSDP2 puts a layer together at a time, and the head; the loss in tiles has a copy of the head.
        whole = (teacher.parameters - teacher.head) / max(teacher.layers, 1) + 2 * teacher.head
    each = teacher.weight_bytes / teacher.parameters
    return MemoryLine(
        name=f"teacher weights, split over {call.ranks} ranks",
        size=round(teacher.weight_bytes / call.ranks + each * whole),
        fix="teacher.dtype: bfloat16, more ranks, or cached targets (`hf-distill cache`)",
    )


def _teacher_lines(
    teacher: ModelSize, shape: BatchShape, call: TeacherCall, *, activations: int, head: int
) -> list[MemoryLine]:
    weights = teacher.weight_bytes
    if call.lent:
        weights = _lent_bytes(teacher, call, activations=activations, head=head)
    lines = [
        MemoryLine(
            name="teacher weights beside the student's, during a call" if call.lent else "teacher weights",
            size=weights,
            fix="teacher.dtype: bfloat16, teacher.quantization, teacher.offload, teacher.sharded under ZeRO-3 or "
            "FSDP2, or cached targets (`hf-distill cache`)",
        )
    ]
    if call.window > 1:
        # Of a vocabulary the rows in front of the head are kept, of classes their logits: what is smaller.
        kept = 4 * shape.rows * call.window * (min(teacher.hidden, teacher.outputs) or teacher.outputs)
        layer = 2 * ACTIVATIONS_PER_WIDTH * shape.positions * call.together * teacher.width
        fix = "a smaller teacher_window_examples, or teacher_window: false"
        lines.append(
            MemoryLine(name="teacher's answers to a window, and a layer of its call", size=kept + layer, fix=fix)
        )
    return lines


def _lent_bytes(teacher: ModelSize, call: TeacherCall, *, activations: int, head: int) -> int:
    """Return what lent weights take beyond what the student's forward and the loss need at another time.

    Asked first, the weights W are on the device before the student's activations are, and gone when they come, but for
    the head h that each of the c answers of a window keeps until the loss: max(W + (c − 1)·h, others + c·h) − others.
    Asked behind the student's forward they lie beside its activations, and only the divergences come later.
    """
    if not call.first:
        return max(0, teacher.weight_bytes - head)
    kept = round(teacher.weight_bytes / teacher.parameters * teacher.head)
    answers = len(call.calls(call.window))
    return max(teacher.weight_bytes - kept - activations - head, 0) + answers * kept


def dense_head_bytes(student: ModelSize, teacher: ModelSize | None, shape: BatchShape) -> int:
    """Return the bytes of whole logits: the student's with their gradient, the teacher's, and two log-softmaxes."""
    whole = 2 * shape.positions * student.outputs + (shape.positions * teacher.outputs if teacher else 0)
    rows = 4 * shape.rows * student.outputs if teacher else 2 * shape.rows * student.outputs
    return 4 * (whole + rows)


def tiled_head_bytes(student: ModelSize, teacher: ModelSize | None, shape: BatchShape, *, budget: int) -> int:
    """Return the bytes of a head in tiles: the tiles, the head's gradient, and the rows' hidden states.

    Args:
        student: Its size.
        teacher: Its size, or None.
        shape: Of a micro-batch.
        budget: Most bytes that tiles may take.
    """
    tiles = min(budget, 4 * shape.rows * (student.outputs + (teacher.outputs if teacher else 0)))
    rows = shape.rows * (2 * student.hidden + (teacher.hidden if teacher else 0))
    return tiles + 4 * (student.outputs * student.hidden + rows)


def _activation_bytes(student: ModelSize, settings: StepSettings, shape: BatchShape) -> int:
    factor = 1 if settings.half else 2
    per_layer = ACTIVATIONS_PER_WIDTH * shape.positions * student.width * factor
    # With checkpointing the input of each layer stays, and one layer is whole at a time.
    if settings.checkpointing:
        return per_layer + student.layers * 2 * factor * shape.positions * student.width
    return student.layers * per_layer


def total(lines: Sequence[MemoryLine]) -> int:
    """Return the bytes of all classes together."""
    return sum(line.size for line in lines)
