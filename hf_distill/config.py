"""ProgressiveDistillConfig: TrainingArguments plus what distillation needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from transformers import TrainingArguments

from hf_distill.reading.signals import Head
from hf_distill.training.launched import check_deepspeed_trains

AtSwitch = Literal["continue", "reset_optimizer", "restart"]
OnBadBatch = Literal["stop", "skip"]


@dataclass(kw_only=True)
class ProgressiveDistillConfig(TrainingArguments):
    """Arguments of `ProgressiveDistillTrainer`.

    Everything of `transformers.TrainingArguments` keeps its meaning. `per_device_train_batch_size ×
    gradient_accumulation_steps × processes` examples make one update, and how they are split does not change it.
    `train_sampling_strategy: group_by_length` makes batches of about one length, in an order that a resumed run and
    every rank draw again; decoders also take padding-free batches (transformers' DataCollatorWithFlattening), with or
    without flash attention. `torch_compile` compiles the student's body; its head and the loss stay in tiles.
    """

    curriculum: str | dict[str, Any] = field(
        default="one_shot",
        metadata={
            "help": "what the student learns from: a curriculum's name or {name: ..., **fields}, e.g. "
            "{name: two_shot, revision: step8000, steps: 2000}. Known: labels, one_shot, two_shot, n_shot, adaptive."
        },
    )
    at_switch: AtSwitch = field(
        default="continue",
        metadata={
            "help": "at a switch of the stage: `continue` with optimizer and learning-rate schedule (as the papers "
            "do), `reset_optimizer` state, or `restart` both for the stage's own length."
        },
    )
    on_bad_batch: OnBadBatch = field(
        default="stop",
        metadata={
            "help": "a step whose loss or gradient is not finite: `stop`, naming the examples, or `skip` the step. It "
            "is never trained on."
        },
    )
    head: str | None = field(
        default=None,
        metadata={
            "help": "classification, regression, token_classification, question_answering, masked_lm, causal_lm or "
            "seq2seq_lm; by default read from the student's class."
        },
    )
    teacher_window: bool = field(
        default=False,
        metadata={
            "help": "let the teacher answer all micro-batches of an optimizer step in one call, before the student's "
            "first forward: fewer and larger calls, with the same losses. What it says of the rows that count is kept "
            "for the whole step, so that it is off where gradients are accumulated for want of memory."
        },
    )
    teacher_window_examples: int | None = field(
        default=None,
        metadata={"help": "most examples of one such call; null: all of the step. A micro-batch is never split."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # What a launch configuration asks for; DeepSpeed refuses arguments that say something else.
        self.bf16, self.fp16 = self.mixed_precision == "bf16", self.mixed_precision == "fp16"
        if self.deepspeed_plugin is not None:
            check_deepspeed_trains(use_cpu=self.use_cpu)
            # Left out, DeepSpeed clips to 1, whatever max_grad_norm says.
            self.deepspeed_plugin.deepspeed_config.setdefault("gradient_clipping", self.max_grad_norm)
        if self.at_switch not in ("continue", "reset_optimizer", "restart"):
            raise ValueError(f"at_switch must be `continue`, `reset_optimizer` or `restart`, got {self.at_switch!r}")
        if self.on_bad_batch not in get_args(OnBadBatch):
            raise ValueError(f"on_bad_batch must be `stop` or `skip`, got {self.on_bad_batch!r}")
        if self.enable_jit_checkpoint:
            raise ValueError(
                "enable_jit_checkpoint saves in the middle of a step, each rank for itself; leave it out: SIGTERM is "
                "always answered with a checkpoint at the end of the step and exit code 143"
            )
        if self.head is not None and self.head not in get_args(Head):
            raise ValueError(f"head must be one of {', '.join(get_args(Head))} or null, got {self.head!r}")
        if self.teacher_window_examples is not None and not (self.teacher_window and self.teacher_window_examples > 0):
            raise ValueError(
                f"teacher_window_examples is {self.teacher_window_examples}: it must be positive, and goes with "
                "teacher_window: true; leave it out"
            )
        if self.use_liger_kernel:
            raise ValueError(
                "use_liger_kernel replaces the head's loss and drops the logits that distillation compares; leave it "
                "off for the student"
            )

    def __getstate__(self) -> dict[str, Any]:
        # The Trainer pickles its arguments into training_args.bin, which its pushes publish.
        return {**self.__dict__, "hub_token": None}

    def curriculum_spec(self) -> dict[str, Any]:
        """Return the curriculum as `{"name": ..., **fields}`."""
        return {"name": self.curriculum} if isinstance(self.curriculum, str) else dict(self.curriculum)
