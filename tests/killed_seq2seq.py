"""A translation model's training with generation in its evaluations, which kills itself at a given step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from builders import distill_config, examples, save_teacher_run
from heads_two_ranks import collate
from killed_run import KillAt
from launching import run_until_killed
from seq2seq_models import tiny_seq2seq
from transformers import EvalPrediction

from hf_distill import ProgressiveDistillSeq2SeqConfig, ProgressiveDistillSeq2SeqTrainer, TeacherSequence

CURRICULUM = {"name": "n_shot", "steps": 5, "label_mix": 0.2, "intra": {"passes": 2, "alpha": 0.5}}


def written(prediction: EvalPrediction) -> dict[str, float]:
    return {"sum": float(prediction.predictions.sum())}


def seq2seq_trainer(folder: Path, **overrides: Any) -> ProgressiveDistillSeq2SeqTrainer:
    """A trainer of a tiny T5 whose evaluations generate; keyword arguments as for `distill_trainer`."""
    keys = ("model", "teacher", "train_dataset", "eval_dataset", "compute_metrics", "callbacks", "data_collator")
    given = {key: overrides.pop(key) for key in list(overrides) if key in keys}
    given.setdefault("model", tiny_seq2seq("t5", seed=1))
    given.setdefault("train_dataset", examples("seq2seq_lm"))
    given.setdefault("eval_dataset", given["train_dataset"])
    overrides.setdefault("curriculum", "one_shot" if given.get("teacher") is not None else "labels")
    values = {"predict_with_generate": True, "generation_max_length": 6, **overrides}
    return ProgressiveDistillSeq2SeqTrainer(
        args=distill_config(folder, config_class=ProgressiveDistillSeq2SeqConfig, **values), **given
    )


def make_trainer(folder: Path, teacher: Path, kill_at: int | None) -> ProgressiveDistillSeq2SeqTrainer:
    """Dropout, shuffled data, Adam, a decaying rate and evaluations that generate in between."""
    return seq2seq_trainer(
        folder,
        model=tiny_seq2seq("t5", seed=1, dropout_rate=0.1),
        teacher=TeacherSequence(teacher),
        train_dataset=examples("seq2seq_lm", count=24),
        eval_dataset=examples("seq2seq_lm", count=5, seed=5),
        data_collator=collate,
        compute_metrics=written,
        curriculum=CURRICULUM,
        callbacks=[KillAt(kill_at)] if kill_at is not None else [],
        max_steps=14,
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


def train_until_killed(folder: Path, teacher: Path, step: int) -> None:
    make_trainer(folder, teacher, step).train()


def whole_and_resumed(
    folder: Path, step: int
) -> tuple[ProgressiveDistillSeq2SeqTrainer, ProgressiveDistillSeq2SeqTrainer]:
    """Return the trainer of a whole run, and that of one that was killed at a step and resumed."""
    teacher = save_teacher_run(folder / "teacher", "seq2seq_lm")
    whole = make_trainer(folder / "whole", teacher, None)
    whole.train()
    run_until_killed(train_until_killed, folder / "cut", teacher, step)
    resumed = make_trainer(folder / "cut", teacher, None)
    resumed.train(resume_from_checkpoint=True)
    return whole, resumed
