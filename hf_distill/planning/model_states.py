"""What a GPU holds of a student between steps: weights, gradients and optimizer states, under each engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from transformers import TrainingArguments
from transformers.training_args import OptimizerNames

from hf_distill.config import ProgressiveDistillConfig
from hf_distill.planning.engines import BUCKET, Engine
from hf_distill.planning.model_size import ModelSize

STATES_PER_PARAMETER = {"adafactor": 0, "rmsprop": 1, "lion": 1, "adagrad": 1}
"""Numbers an optimizer keeps for a parameter; 2 for Adam and for those not named here."""


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
class StepSettings:
    """What training arguments say about a step.

    Attributes:
        states: Numbers the optimizer keeps for a parameter.
        half: Matrix products in 16 bits.
        checkpointing: Layers are computed anew in the backward.
        accumulation: Micro-batches of a step.
        window: The teacher answers several micro-batches in one call.
        window_examples: Most examples of such a call; None: all of the step.
    """

    states: int = 2
    half: bool = True
    checkpointing: bool = False
    accumulation: int = 1
    window: bool = False
    window_examples: int | None = None

    @property
    def number_bytes(self) -> int:
        """Bytes of a number that matrix products read."""
        return 2 if self.half else 4


def step_settings(args: TrainingArguments) -> StepSettings:
    """Return what training arguments say about a step."""
    asked = (args.teacher_window, args.teacher_window_examples) if isinstance(args, ProgressiveDistillConfig) else ()
    window, examples = asked or (False, None)
    return StepSettings(
        states=_states_per_parameter(args),
        half=bool(args.bf16 or args.fp16),
        checkpointing=bool(args.gradient_checkpointing),
        accumulation=args.gradient_accumulation_steps,
        window=window,
        window_examples=examples,
    )


def _states_per_parameter(args: TrainingArguments) -> int:
    name = OptimizerNames(args.optim).value.split("_")[0]
    if name == "sgd":
        return 1 if "momentum" in (args.optim_args or "") else 0
    return STATES_PER_PARAMETER.get(name, 2)


class StateBytes(NamedTuple):
    """Bytes of a whole student, on however many GPUs they lie."""

    weights: float
    gradients: float
    states: float


def state_bytes(student: ModelSize, settings: StepSettings, engine: Engine) -> StateBytes:
    """Return what an engine keeps of a student altogether.

    DeepSpeed has weights and gradients in the number format of the products, and beside the optimizer's states a copy
    of the weights in 32 bits; the others keep the student's own number format.
    """
    if engine.deepspeed:
        numbers = student.parameters * settings.number_bytes
        return StateBytes(numbers, numbers, 4 * (1 + settings.states) * student.parameters)
    return StateBytes(student.weight_bytes, student.weight_bytes, settings.states * student.weight_bytes)


def state_lines(student: ModelSize, settings: StepSettings, engine: Engine, *, gpus: int) -> list[MemoryLine]:
    """Return what each of N GPUs holds of a student, in bytes.

    Args:
        student: Its size.
        settings: Optimizer and number format.
        engine: How it is spread.
        gpus: N.
    """
    whole = state_bytes(student, settings, engine)
    held = whole.weights * engine.share("weights", gpus) + whole.gradients * _gradient_share(engine, settings, gpus)
    shown = f" ({engine.name}, 1 of {gpus})" if gpus > 1 else ""
    return [
        MemoryLine(
            name=f"student weights and gradients{shown}",
            size=round(held),
            fix="a smaller student, LoRA, or ZeRO-3 / FSDP2 over several devices",
        ),
        MemoryLine(
            name=f"optimizer states{shown}",
            size=round(whole.states * engine.share("states", gpus)),
            fix="optim: adafactor, or ZeRO-1 over several devices",
        ),
        MemoryLine(
            name="16 bit copies of the student's weights",
            size=_copies(student, settings, engine),
            fix="ZeRO or FSDP2, which have no second copy beside what they compute with",
        ),
        MemoryLine(
            name="layers that are whole for a while",
            size=round(settings.number_bytes * engine.gathered(student)) if gpus > 1 else 0,
            fix="FSDP2 instead of ZeRO-3, or a smaller zero_optimization.stage3_max_live_parameters",
        ),
        MemoryLine(
            name="buffers for sending gradients",
            size=_buffers(student, settings, engine, gpus),
            fix="a smaller zero_optimization.reduce_bucket_size; under DDP, another engine",
        ),
    ]


def _gradient_share(engine: Engine, settings: StepSettings, gpus: int) -> float:
    # Between micro-batches FSDP2 keeps the gradients whole: the Trainer has it reduce them at the last one only.
    if engine.splits_weights and not engine.deepspeed and settings.accumulation > 1:
        return 1.0
    return engine.share("gradients", gpus)


def _copies(student: ModelSize, settings: StepSettings, engine: Engine) -> int:
    # Autocast keeps what it has converted until the backward has used it.
    converted = settings.half and not engine.deepspeed and not engine.splits_weights
    return 2 * student.multiplied if converted and student.weight_bytes > 2 * student.parameters else 0


def _buffers(student: ModelSize, settings: StepSettings, engine: Engine, gpus: int) -> int:
    if engine.deepspeed:
        return settings.number_bytes * BUCKET
    if gpus == 1 or engine.splits_weights:
        return 0
    # DistributedDataParallel's buckets are no views of the gradients unless it is told so.
    return student.weight_bytes
