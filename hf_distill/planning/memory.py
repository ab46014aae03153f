"""What a step holds in memory on one device, from sizes and batch: formulas, no measurement.

Shape legend: B examples of a micro-batch, T positions, R labelled rows, V vocabulary or classes, H width of the head's
input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from hf_distill.config import ProgressiveDistillConfig
from hf_distill.planning.model_size import ModelSize

STATES_PER_PARAMETER = {"adafactor": 0, "rmsprop": 1, "lion": 1, "adagrad": 1}
"""Numbers an optimizer keeps for a parameter; 2 for Adam and for those not named here."""

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
class MemoryLine:
    """One class of tensors.

    Attributes:
        name: For people.
        size: Bytes.
        fix: What makes it smaller.
    """

    name: str
    size: int
    fix: str


@dataclass(frozen=True, kw_only=True)
class TeacherCall:
    """How the teacher is asked.

    Attributes:
        window: Micro-batches whose rows are kept at a time; 1 where each is answered by itself.
        together: Micro-batches of one call.
        lent: Its weights lie in CPU memory between calls.
    """

    window: int = 1
    together: int = 1
    lent: bool = False


def teacher_call(args: ProgressiveDistillConfig, shape: BatchShape, *, lent: bool = False) -> TeacherCall:
    """Return how training arguments have the teacher asked about micro-batches of a shape."""
    if not args.teacher_window:
        return TeacherCall(lent=lent)
    window, most = args.gradient_accumulation_steps, args.teacher_window_examples
    together = window if most is None else min(window, max(1, most // shape.examples))
    return TeacherCall(window=window, together=together, lent=lent)


def step_memory(
    student: ModelSize,
    teacher: ModelSize | None,
    args: TrainingArguments,
    shape: BatchShape,
    *,
    head: int,
    call: TeacherCall = TeacherCall(),
) -> list[MemoryLine]:
    """Return what a training step holds at its peak, largest class first.

    Weights, gradients and optimizer states are exact for one process without sharding; activations are the estimate
    of Korthikanti et al. 2022 (arXiv 2205.05198) without attention matrices, which fused attention does not keep.

    Args:
        student: Its size.
        teacher: Its size, or None.
        args: Optimizer, number format and activation checkpointing.
        shape: Of a micro-batch.
        head: Bytes that the heads' outputs take, see `dense_head_bytes` and `tiled_head_bytes`.
        call: How the teacher is asked.
    """
    activations = _activation_bytes(student, args, shape)
    lines = [
        MemoryLine(
            name="student weights and gradients",
            size=2 * student.weight_bytes,
            fix="a smaller student, LoRA, or ZeRO-3 / FSDP2 over several devices",
        ),
        MemoryLine(
            name="optimizer states",
            size=_states_per_parameter(args) * student.weight_bytes,
            fix="optim: adafactor, or ZeRO-1 over several devices",
        ),
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
        lines += _teacher_lines(teacher, shape, call, others=activations + head)
    return sorted((line for line in lines if line.size), key=lambda line: -line.size)


def _teacher_lines(teacher: ModelSize, shape: BatchShape, call: TeacherCall, *, others: int) -> list[MemoryLine]:
    # Weights that are lent are gone before the student's forward: they only have to fit where that will need memory.
    weights = max(0, teacher.weight_bytes - others) if call.lent else teacher.weight_bytes
    lines = [
        MemoryLine(
            name="teacher weights beside the student's, during a call" if call.lent else "teacher weights",
            size=weights,
            fix="teacher.dtype: bfloat16, teacher.quantization, teacher.offload, or cached targets "
            "(`hf-distill cache`)",
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


def _states_per_parameter(args: TrainingArguments) -> int:
    name = OptimizerNames(args.optim).value.split("_")[0]
    if name == "sgd":
        return 1 if "momentum" in (args.optim_args or "") else 0
    return STATES_PER_PARAMETER.get(name, 2)


def _activation_bytes(student: ModelSize, args: TrainingArguments, shape: BatchShape) -> int:
    factor = 1 if args.bf16 or args.fp16 else 2
    per_layer = ACTIVATIONS_PER_WIDTH * shape.positions * student.width * factor
    # With checkpointing the input of each layer stays, and one layer is whole at a time.
    if args.gradient_checkpointing:
        return per_layer + student.layers * 2 * factor * shape.positions * student.width
    return student.layers * per_layer


def total(lines: Sequence[MemoryLine]) -> int:
    """Return the bytes of all classes together."""
    return sum(line.size for line in lines)
