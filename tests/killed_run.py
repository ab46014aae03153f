"""A training run in a process of its own that kills itself with SIGKILL at a given step, for the resume tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from builders import distill_trainer, examples, save_teacher_run, tiny_model
from launching import run_until_killed
from transformers import EvalPrediction, TrainerCallback

from hf_distill import ProgressiveDistillTrainer, TeacherSequence


class KillAt(TrainerCallback):
    """Kills the process in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


FIXED = {"name": "n_shot", "steps": 5}


def make_trainer(
    folder: Path, teacher: Path, curriculum: dict[str, Any], kill_at: int | None
) -> ProgressiveDistillTrainer:
    """A classifier with dropout, shuffled data, Adam and a decaying rate: everything that could resume wrongly."""
    return distill_trainer(
        folder,
        "classification",
        model=tiny_model("classification", seed=1, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.1),
        teacher=TeacherSequence(teacher),
        train_dataset=examples("classification", count=24),
        eval_dataset=examples("classification", count=9, seed=5),
        compute_metrics=accuracy,
        curriculum=curriculum,
        callbacks=[KillAt(kill_at)] if kill_at is not None else [],
        max_steps=16,
        save_strategy="steps",
        save_steps=3,
        eval_strategy="steps",
        eval_steps=2,
        optim="adamw_torch",
        learning_rate=5e-3,
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        save_total_limit=2,
    )


def train_until_killed(folder: Path, teacher: Path, curriculum: dict[str, Any], step: int) -> None:
    make_trainer(folder, teacher, curriculum, step).train()


def whole_and_resumed(
    folder: Path, curriculum: dict[str, Any], step: int
) -> tuple[ProgressiveDistillTrainer, ProgressiveDistillTrainer]:
    """Return the trainer of a whole run, and that of one that was killed at a step and resumed."""
    teacher = save_teacher_run(folder / "teacher")
    whole = make_trainer(folder / "whole", teacher, curriculum, None)
    whole.train()
    run_until_killed(train_until_killed, folder / "cut", teacher, curriculum, step)
    resumed = make_trainer(folder / "cut", teacher, curriculum, None)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == whole.state.global_step
    return whole, resumed
