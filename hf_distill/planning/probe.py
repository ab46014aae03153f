"""A few real steps, to know how long one takes on this machine."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import Any

from transformers import PrinterCallback, TrainerCallback

from hf_distill.loss.reduction import count_items
from hf_distill.planning.memory import BatchShape
from hf_distill.trainer import ProgressiveDistillTrainer
from hf_distill.training.peak_memory import peak_memory

STEPS = 5
WARMUP = 2
"""Steps before those that count: the first ones allocate and choose kernels."""

PROBED: dict[str, Any] = {
    "max_steps": STEPS + WARMUP,
    "eval_strategy": "no",
    "save_strategy": "no",
    "logging_strategy": "no",
    "load_best_model_at_end": False,
    "push_to_hub": False,
    "disable_tqdm": True,
}
"""Training arguments of a probe; everything else stays as it is in the run."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What the steps took.

    Attributes:
        step_seconds: Median of an optimizer step.
        teacher_share: Of the teacher in it; 0 without one.
        peak_bytes: Highest memory use: of the device, or of the whole process on a CPU.
    """

    step_seconds: float
    teacher_share: float
    peak_bytes: int


def probe_steps(trainer: ProgressiveDistillTrainer) -> Probe:
    """Train a few steps and time them; the trainer is of no use afterwards.

    Args:
        trainer: Built with the arguments `PROBED`.
    """
    trainer.remove_callback(PrinterCallback)
    warmup = _Warmup(trainer)
    trainer.add_callback(warmup)
    trainer.train()
    log = trainer.distillation.log
    log.collect()
    counted = log.step_seconds[WARMUP:]
    return Probe(
        step_seconds=statistics.median(counted),
        teacher_share=(log.teacher_seconds - warmup.teacher_seconds) / sum(counted),
        peak_bytes=peak_memory(trainer.args.device),
    )


class _Warmup(TrainerCallback):
    """Notes what the teacher took until the steps that count."""

    def __init__(self, trainer: ProgressiveDistillTrainer) -> None:
        self.trainer = trainer
        self.teacher_seconds = 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at the clock after the last step of the warm-up."""
        if state.global_step == WARMUP:
            log = self.trainer.distillation.log
            log.collect()
            self.teacher_seconds = log.teacher_seconds


def batch_shape(trainer: ProgressiveDistillTrainer) -> BatchShape:
    """Return the largest of a few training micro-batches.

    Raises:
        ValueError: The data gives none.
    """
    head, largest = trainer.distillation.head, None
    for batch, _ in zip(trainer.get_train_dataloader(), range(STEPS), strict=False):
        rows, tokens, examples = (int(count) for count in count_items([batch], head)[:3])
        mask = batch.get("attention_mask")
        positions = mask.numel() if mask is not None else tokens
        shape = BatchShape(examples=examples, tokens=tokens, positions=positions, rows=rows)
        if largest is None or shape.positions > largest.positions:
            largest = shape
    if largest is None:
        raise ValueError("the training data gives not one batch; check its size and dataloader_drop_last")
    return largest
