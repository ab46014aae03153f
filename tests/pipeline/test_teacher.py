from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import save_teacher_run
from safetensors.torch import load_file
from tiny_recipes import SGD, parity_mapping
from transformers import TrainerCallback

from hf_distill.pipeline.cells import build_trainer, cells_of, task_of
from hf_distill.pipeline.checks import check_before_training
from hf_distill.pipeline.final_metrics import final_metrics
from hf_distill.pipeline.teacher import open_model, open_teacher, scores_of, teacher_trainer, train_teacher
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.recipe.teacher_spec import ModelSpec


def teacher_recipe(folder: Path, *, stop_at: dict[str, Any] | None = None, **training: Any) -> Recipe:
    mapping = parity_mapping(folder)
    train = mapping["teacher"]["train"]
    train["training"] = {**train["training"], "max_steps": 60, **training}
    if stop_at is not None:
        train["stop_at"] = stop_at
    return Recipe.from_dict(mapping)


def trained(recipe: Recipe) -> tuple[dict[str, Any], Path]:
    workspace = Workspace(Path(recipe.output_dir))
    return train_teacher(recipe, task_of(recipe), workspace), workspace.teacher


def steps_in(folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*"))


class Killed(Exception):
    """Stands for the end of the process."""


class KillAt(TrainerCallback):
    """Ends training in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


# ---- training it ----


def test_every_checkpoint_is_kept_for_the_students(tmp_path):
    """The students' default of two checkpoints would leave nothing to distil from progressively."""
    result, folder = trained(teacher_recipe(tmp_path))
    assert steps_in(folder) == [20, 40, 60]
    assert result["final_metrics"]["accuracy"] > 0.95
    assert set(result["final_metrics"]) == {"accuracy", "loss"}
    assert result["seconds"] > 0


def test_a_finished_teacher_is_not_trained_again(tmp_path):
    recipe = teacher_recipe(tmp_path)
    first, folder = trained(recipe)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    again, _ = trained(recipe)
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.slow
@pytest.mark.parametrize("save_only_model", [False, True], ids=["resumed", "begun anew"])
def test_an_interrupted_teacher_becomes_the_same_teacher(tmp_path, save_only_model):
    settings = {"optim": "adamw_torch", "learning_rate": 5e-3, "save_only_model": save_only_model}
    _, whole = trained(teacher_recipe(tmp_path / "whole", **settings))
    recipe = teacher_recipe(tmp_path / "cut", **settings)
    workspace = Workspace(tmp_path / "cut")
    trainer = teacher_trainer(recipe, task_of(recipe), task_of(recipe).prepare(seed=0, cache_dir=tmp_path), workspace)
    trainer.add_callback(KillAt(50))
    with pytest.raises(Killed):
        trainer.train()
    (workspace.teacher / "checkpoint-40" / "model.safetensors").write_bytes(b"half")
    _, cut = trained(recipe)
    assert steps_in(cut) == [20, 40, 60]
    for step in (20, 40, 60):
        ours, theirs = (load_file(folder / f"checkpoint-{step}" / "model.safetensors") for folder in (cut, whole))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_training_ends_with_a_checkpoint_at_the_level(tmp_path):
    _, folder = trained(teacher_recipe(tmp_path, stop_at={"metric": "accuracy", "level": 0.9}, eval_steps=10))
    last = steps_in(folder)[-1]
    state = json.loads((folder / f"checkpoint-{last}" / "trainer_state.json").read_text())
    accuracy = {point["step"]: point["eval_accuracy"] for point in state["log_history"] if "eval_accuracy" in point}
    assert last < 60
    assert accuracy[last] >= 0.9
    assert all(value < 0.9 for step, value in accuracy.items() if step < last)


# ---- its metrics ----


def test_final_metrics_are_evaluated_where_training_did_not(tmp_path):
    recipe = teacher_recipe(tmp_path, eval_strategy="no")
    result, _ = trained(recipe)
    assert set(result["final_metrics"]) == {"accuracy", "loss"}


def test_final_metrics_are_those_of_the_last_step(tmp_path):
    recipe = teacher_recipe(tmp_path)
    workspace = Workspace(tmp_path)
    task = task_of(recipe)
    trainer = teacher_trainer(recipe, task, task.prepare(seed=0, cache_dir=tmp_path), workspace)
    trainer.args.eval_steps = 50
    trainer.train()
    evaluated = final_metrics(trainer)
    trainer.evaluate()
    assert evaluated == final_metrics(trainer)


# ---- opening and scoring it ----


def test_the_trained_teacher_is_a_sequence_of_its_checkpoints(tmp_path):
    recipe = teacher_recipe(tmp_path)
    trained(recipe)
    teacher = open_teacher(recipe, Workspace(tmp_path))
    assert [(revision.name, revision.step) for revision in teacher.revisions] == [
        ("checkpoint-20", 20),
        ("checkpoint-40", 40),
        ("checkpoint-60", 60),
    ]


def test_scores_are_kept_for_the_same_revisions_and_data_only(tmp_path):
    recipe = teacher_recipe(tmp_path)
    trained(recipe)
    workspace, cell = Workspace(tmp_path), cells_of(recipe)[0]
    trainer = build_trainer(cell, recipe, task_of(recipe), None, workspace, labels_only=True)
    teacher = open_teacher(recipe, workspace)
    teacher.attach(head="classification", accelerator=None)
    scores = scores_of(teacher, trainer, tmp_path, data="A")
    assert [score["step"] for score in scores] == [20, 40, 60]
    kept = json.loads((tmp_path / "teacher_scores.json").read_text())
    kept["scores"] = "kept"
    (tmp_path / "teacher_scores.json").write_text(json.dumps(kept))
    assert scores_of(teacher, trainer, tmp_path, data="A") == "kept"
    assert scores_of(teacher, trainer, tmp_path, data="B") == scores
    shutil.rmtree(workspace.teacher / "checkpoint-20")
    shorter = open_teacher(recipe, workspace)
    shorter.attach(head="classification", accelerator=None)
    assert [score["step"] for score in scores_of(shorter, trainer, tmp_path, data="B")] == [40, 60]


def test_a_half_written_teacher_checkpoint_is_named_and_not_left_out(tmp_path):
    mapping = parity_mapping(tmp_path / "run")
    trained(teacher_recipe(tmp_path))
    source = Workspace(tmp_path).teacher
    file = source / "checkpoint-40" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    mapping["teacher"] = {"source": str(source)}
    recipe = Recipe.from_dict(mapping)
    with pytest.raises(ValueError, match=r"checkpoint-40 .* is not a whole checkpoint.*cut short"):
        check_before_training(recipe, task_of(recipe), Workspace(tmp_path / "run"), cells_of(recipe))


def test_the_settings_of_a_teachers_training_reach_the_trainer(tmp_path):
    recipe = teacher_recipe(tmp_path, **{**SGD, "save_total_limit": 1})
    _, folder = trained(recipe)
    assert steps_in(folder) == [60], "who limits the checkpoints gets that"


def test_how_a_teacher_is_run_reaches_the_run(tmp_path):
    folder = tmp_path / "teacher"
    save_teacher_run(folder)
    spec = ModelSpec(source=str(folder), compile="eager", offload=True, dtype="bfloat16")
    teacher = open_model(spec, folder)
    assert "teacher.hidden_states" not in teacher.provides
    teacher.attach(head="classification", accelerator=None)
    teacher.enter(0)
    assert teacher.model.dtype == torch.bfloat16
    with pytest.raises(ValueError, match="compiled body leaves out"):
        open_model(ModelSpec(source=str(folder), sharded=True, compile=True), folder)
    with pytest.raises(ValueError, match="quantization: eetq cannot be used here"):
        open_model(ModelSpec(source=str(folder), quantization={"quant_method": "eetq"}), folder)
