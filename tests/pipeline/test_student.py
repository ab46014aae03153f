from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import flat_weights
from safetensors.torch import load_file
from tiny_recipes import untaught

from hf_distill.pipeline.cells import build_trainer, cells_of, task_of
from hf_distill.pipeline.student import RESULT_FILE, finished_run, train_student
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import StudentRun


def train(recipe: Recipe) -> tuple[StudentRun, Path]:
    workspace, cell = Workspace(Path(recipe.output_dir)), cells_of(recipe)[0]
    task = task_of(recipe)
    trainer = build_trainer(cell, recipe, task, None, workspace)
    run = train_student(trainer, recipe, task, label=cell.label, workspace=workspace)
    return run, workspace.student(cell.label, cell.seed)


def adam(folder: Path, **changes: Any) -> Recipe:
    recipe = untaught(folder)
    return untaught(folder, training={**recipe.training, "optim": "adamw_torch", "learning_rate": 5e-3, **changes})


def without_times(run: StudentRun) -> dict[str, Any]:
    log = [{key: value for key, value in entry.items() if not key.startswith("speed/")} for entry in run.training_log]
    return {key: value for key, value in vars(run).items() if key != "costs"} | {"training_log": log}


def test_the_result_is_what_was_trained_and_is_read_back(tmp_path):
    run, folder = train(untaught(tmp_path))
    assert run.folder == "students/labels/seed-0"
    assert [point["step"] for point in run.history] == [20, 40, 60, 80]
    assert run.history[-1] == {"step": 80, **run.final_metrics}
    assert run.steps_to_level == next(p["step"] for p in run.history if p["accuracy"] >= 0.99)
    assert run.loss_formula == "CE(labels)"
    assert finished_run(folder) == run
    assert (folder / "model.safetensors").is_file()


def test_an_unfinished_student_has_no_result(tmp_path):
    assert finished_run(tmp_path) is None
    assert finished_run(tmp_path / "absent") is None


def test_a_result_of_another_shape_is_refused_with_its_file(tmp_path):
    (tmp_path / RESULT_FILE).write_text('{"curriculum": "labels"}')
    with pytest.raises(ValueError, match=rf"{RESULT_FILE}.*seed: missing"):
        finished_run(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("left", ["checkpoint-40", "checkpoint-80", "checkpoint-80 half-written", "nothing whole"])
def test_an_interrupted_student_becomes_the_same_student(tmp_path, left):
    whole, folder = train(adam(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    cut = tmp_path / "b" / whole.folder
    for name in (RESULT_FILE, "model.safetensors"):
        (cut / name).unlink()
    if left == "checkpoint-40":
        shutil.rmtree(cut / "checkpoint-80")
    elif left != "checkpoint-80":
        (cut / "checkpoint-80" / "trainer_state.json").unlink()
    if left == "nothing whole":
        (cut / "checkpoint-40" / "optimizer.pt").write_bytes(b"")
    resumed, _ = train(adam(tmp_path / "b"))
    ours, theirs = load_file(cut / "model.safetensors"), load_file(folder / "model.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert without_times(resumed) == without_times(whole)
    assert json.loads((cut / RESULT_FILE).read_text())["final_metrics"] == dict(whole.final_metrics)


@pytest.mark.slow
def test_without_optimizer_states_an_interrupted_student_begins_anew(tmp_path):
    recipe = adam(tmp_path, save_only_model=True)
    whole, folder = train(recipe)
    weights = load_file(folder / "model.safetensors")
    (folder / RESULT_FILE).unlink()
    again, _ = train(recipe)
    assert without_times(again) == without_times(whole)
    assert all(torch.equal(value, weights[name]) for name, value in load_file(folder / "model.safetensors").items())


def test_the_best_model_is_what_is_saved_and_recorded_where_that_is_asked_for(tmp_path):
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "save_steps": 20, "learning_rate": 8.0}
    recipe = untaught(tmp_path)
    run, folder = train(untaught(tmp_path, training={**recipe.training, **best}))
    assert run.final_metrics["loss"] == pytest.approx(min(point["loss"] for point in run.history), rel=1e-6)
    saved = task_of(recipe).auto_class().from_pretrained(folder)
    state = json.loads((folder / "checkpoint-80" / "trainer_state.json").read_text())
    chosen = task_of(recipe).auto_class().from_pretrained(folder / Path(state["best_model_checkpoint"]).name)
    assert torch.equal(flat_weights(saved), flat_weights(chosen))
