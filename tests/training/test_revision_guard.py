"""A teacher revision that cannot be had stops training with a checkpoint, and none is ever left out."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import distill_trainer, examples, flat_weights, save_teacher_run, tiny_model
from transformers import TrainerCallback

from hf_distill import ProgressiveDistillTrainer, TeacherSequence
from hf_distill.teachers.retry import RevisionUnavailable

FIXED: dict[str, Any] = {"name": "n_shot", "steps": 3}


class HideAt(TrainerCallback):
    """Takes a folder away while training is under way."""

    def __init__(self, step: int, folder: Path) -> None:
        self.step, self.folder = step, folder

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step and self.folder.exists():
            self.folder.rename(self.folder.with_name("hidden"))


def make(folder: Path, teacher: Path, *callbacks: TrainerCallback, **options: Any) -> ProgressiveDistillTrainer:
    values: dict[str, Any] = {"curriculum": FIXED, "max_steps": 9, "optim": "adamw_torch", "learning_rate": 1e-2}
    return distill_trainer(
        folder,
        model=tiny_model("classification", seed=1, hidden_dropout_prob=0.2),
        teacher=TeacherSequence(teacher),
        train_dataset=examples("classification", count=24),
        callbacks=list(callbacks),
        **{**values, **options},
    )


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return save_teacher_run(tmp_path / "teacher")


@pytest.mark.slow
def test_run_that_stopped_resumes_to_the_same_weights(tmp_path: Path, teacher: Path) -> None:
    whole = make(tmp_path / "whole", teacher)
    whole.train()
    # At step 0 the second revision is being read ahead already; the third is not.
    stopped = make(tmp_path / "run", teacher, HideAt(1, teacher / "checkpoint-30"))
    with pytest.raises(RevisionUnavailable, match=r"checkpoint-30 .* cannot be had.*\n.*saved a checkpoint") as caught:
        stopped.train()
    assert str(tmp_path / "run") in str(caught.value)
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-6"]
    (teacher / "hidden").rename(teacher / "checkpoint-30")
    resumed = make(tmp_path / "run", teacher)
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(flat_weights(resumed.model), flat_weights(whole.model))


def test_adaptive_switch_without_its_teacher_stops_as_well(tmp_path: Path, teacher: Path) -> None:
    trainer = make(
        tmp_path / "run",
        teacher,
        HideAt(1, teacher / "checkpoint-30"),
        curriculum={"name": "adaptive", "metric": "loss", "level": 1e9, "greater_is_better": False},
        eval_dataset=examples("classification", count=6, seed=3),
        eval_strategy="steps",
        eval_steps=2,
    )
    with pytest.raises(RevisionUnavailable, match="checkpoint-30"):
        trainer.train()
    assert [path.name for path in (tmp_path / "run").glob("checkpoint-*")] == ["checkpoint-4"]


def test_same_trainer_can_go_on_after_it_stopped(tmp_path: Path, teacher: Path) -> None:
    trainer = make(tmp_path / "run", teacher, HideAt(1, teacher / "checkpoint-30"))
    with pytest.raises(RevisionUnavailable):
        trainer.train()
    shutil.copytree(teacher / "hidden", teacher / "checkpoint-30", copy_function=shutil.copy2)
    trainer.pop_callback(HideAt)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 9


def test_undisturbed_run_saves_nothing_more_and_logs_its_waits(tmp_path: Path, teacher: Path) -> None:
    trainer = make(tmp_path / "run", teacher)
    trainer.train()
    assert not list((tmp_path / "run").glob("checkpoint-*"))
    logged = {entry["step"]: entry["teacher/stall_seconds"] for entry in trainer.state.log_history
              if "teacher/stall_seconds" in entry}  # fmt: skip
    assert list(logged) == [1, 4, 7]
    assert list(logged.values()) == pytest.approx(trainer.distillation.log.stalls)


def test_choice_by_score_that_nobody_made_is_refused(tmp_path: Path, teacher: Path) -> None:
    source = {"revisions": str(teacher), "near_transition": 1}
    trainer = distill_trainer(tmp_path / "run", teacher=TeacherSequence(source))
    with pytest.raises(ValueError, match=r"near_transition chooses .* use it in a recipe"):
        trainer.train()
    assert isinstance(trainer.teacher, TeacherSequence)
    trainer.teacher.narrow(trainer.teacher.revisions[1:])
    trainer.train()
    assert [revision.step for revision in trainer.teacher.revisions] == [20, 30]
