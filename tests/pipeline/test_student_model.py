from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_recipes import SGD, parity_recipe, text_recipe, write_text

from hf_distill.pipeline.cells import build_trainer, cells_of, task_of
from hf_distill.pipeline.checks import check_before_training
from hf_distill.pipeline.run import run_recipe
from hf_distill.pipeline.student_model import make_student_of_teacher, student_model
from hf_distill.pipeline.workspace import Workspace
from hf_distill.planning.run_plan import plan_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord
from hf_distill.student_making.origin import ORIGIN_FILE, StudentOrigin
from hf_distill.teachers.weight_files import content_hash

BERT = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 32}
TRAINING = {**SGD, "optim": "adamw_torch", "learning_rate": 1e-2, "per_device_train_batch_size": 8, "max_steps": 4}
TRAINING |= {"eval_steps": 4, "save_steps": 4}


def recipe_of(folder: Path, text: Path, cut: dict[str, Any], **changes: Any) -> Recipe:
    train = {"model": {"architecture": "bert", "config": BERT}, "training": {**TRAINING, "save_only_model": True}}
    fields = {
        "teacher": {"train": train},
        "student": {"model": {"from_teacher": cut}},
        "compare": {"one_shot": {"name": "one_shot"}},
        "training": TRAINING,
    }
    return text_recipe(folder, text, "masked_lm", **{**fields, **changes})


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("text"), documents=20)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, text: Path) -> tuple[Recipe, RunRecord]:
    """A run whose student is chosen by data, in depth and in width."""
    cut = {"layers": "cka:2", "intermediate_size": 8, "choose": "sensitivity", "examples": 12}
    recipe = recipe_of(tmp_path_factory.mktemp("made") / "run", text, cut)
    return recipe, run_recipe(recipe)


def test_the_student_begins_as_the_part_of_its_teacher_that_was_kept(finished):
    recipe, _ = finished
    workspace = Workspace(Path(recipe.output_dir))
    origin = StudentOrigin.load(workspace.made_student)
    assert origin.commit == content_hash(workspace.teacher / "checkpoint-4")
    kept = origin.layers["layers"]
    assert len(kept) == 2
    teacher = load_file(workspace.teacher / "checkpoint-4" / "model.safetensors")
    task = task_of(recipe)
    data = task.prepare(seed=0, cache_dir=workspace.cache)
    state = student_model(recipe, task, data, workspace).state_dict()
    for place, layer in enumerate(kept):
        key = "bert.encoder.layer.{}.attention.self.query.weight"
        assert torch.equal(state[key.format(place)], teacher[key.format(layer - 1)])
    trainer = build_trainer(cells_of(recipe)[0], recipe, task, None, workspace, labels_only=True)
    assert torch.equal(
        trainer.model.state_dict()["bert.embeddings.word_embeddings.weight"],
        state["bert.embeddings.word_embeddings.weight"],
    )
    assert state["bert.encoder.layer.0.intermediate.dense.weight"].shape == (8, 16)


def test_the_record_says_who_the_student_was_cut_out_of(finished):
    recipe, record = finished
    made = record.student["made"]
    assert made == StudentOrigin.load(Workspace(Path(recipe.output_dir)).made_student).to_dict()
    assert record.student["description"].startswith("bert cut out of its teacher: layers ")
    assert "intermediate size 8 of 32" in record.student["description"]
    assert record.student["origin"] == {"from_teacher": recipe.student.model["from_teacher"]}
    assert record.student["parameters"] == made["parameters"]
    assert made["data"].startswith("12 training examples of ")
    assert made["commit"] == record.teacher["revisions"][-1]["commit"]


def test_a_student_that_is_made_is_not_made_again(finished, tmp_path):
    recipe, _ = finished
    shutil.copytree(recipe.output_dir, tmp_path / "run")
    again = Recipe.from_dict({**recipe.to_dict(), "output_dir": str(tmp_path / "run")})
    workspace, task = Workspace(tmp_path / "run"), task_of(again)
    before = (workspace.made_student / "model.safetensors").stat().st_mtime_ns
    origin = make_student_of_teacher(again, task, workspace)
    assert origin == StudentOrigin.load(workspace.made_student)
    assert (workspace.made_student / "model.safetensors").stat().st_mtime_ns == before


def test_students_of_one_folder_never_begin_as_different_ones(finished, tmp_path):
    recipe, _ = finished
    shutil.copytree(recipe.output_dir, tmp_path / "run")
    mapping = {**recipe.to_dict(), "output_dir": str(tmp_path / "run")}
    mapping["student"] = {"model": {"from_teacher": {"layers": "first:1"}}}
    other = Recipe.from_dict(mapping)
    workspace, task = Workspace(tmp_path / "run"), task_of(other)
    with pytest.raises(ValueError, match=r"^student\.model\.from_teacher: students in .* began as the one in"):
        make_student_of_teacher(other, task, workspace)
    # Sizes looked at before that are the new student's, not those of the one that lies there.
    data = task.prepare(seed=0, cache_dir=workspace.cache)
    assert student_model(other, task, data, workspace).config.num_hidden_layers == 1
    shutil.rmtree(workspace.root / "students")
    origin = make_student_of_teacher(other, task, workspace)
    assert origin.layers == {"layers": [1]}
    assert json.loads((workspace.made_student / ORIGIN_FILE).read_text())["cut"]["layers"] == "first:1"


def test_before_there_is_a_teacher_random_weights_of_the_same_sizes_stand_in(finished, tmp_path):
    recipe, record = finished
    workspace, task = Workspace(tmp_path), task_of(recipe)
    data = task.prepare(seed=0, cache_dir=workspace.cache)
    stand_in = student_model(recipe, task, data, workspace)
    assert sum(parameter.numel() for parameter in stand_in.parameters()) == record.student["parameters"]
    assert stand_in.config.num_hidden_layers == 2
    check_before_training(recipe, task, workspace, cells_of(recipe))
    assert not workspace.made_student.exists()


def test_a_plan_knows_the_students_size(finished):
    recipe, record = finished
    plan = plan_recipe(recipe, probe=False)
    assert plan.student.parameters == record.student["parameters"]
    assert plan.student.layers == 2


@pytest.mark.parametrize("as_source", [True, False])
def test_a_teacher_that_is_given_is_cut_too(finished, text, tmp_path, as_source):
    recipe, _ = finished
    folder = Workspace(Path(recipe.output_dir)).teacher
    source = str(folder / "checkpoint-4") if as_source else str(folder)
    given = recipe_of(tmp_path / "run", text, {"layers": "last:1"}, teacher={"source": source})
    record = run_recipe(given)
    assert record.student["made"]["layers"] == {"layers": [4]}
    assert record.student["made"]["commit"] == content_hash(folder / "checkpoint-4")


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ({"layers": "first:5"}, r"student\.model\.from_teacher: layers: asks for 5 layers, but there are 4"),
        ({"hidden_size": 10}, r"student\.model\.from_teacher: hidden_size: 10 is no multiple of 4"),
    ],
)
def test_a_cut_that_does_not_fit_is_refused_before_any_training(text, tmp_path, cut, message):
    recipe = recipe_of(tmp_path, text, cut)
    with pytest.raises(ValueError, match=message):
        check_before_training(recipe, task_of(recipe), Workspace(tmp_path), cells_of(recipe))
    with pytest.raises(ValueError, match=message):
        plan_recipe(recipe, probe=False)
    assert not list((tmp_path / "teacher").glob("checkpoint-*"))


def test_an_architecture_that_cannot_be_cut_is_refused_before_any_training(tmp_path):
    recipe = parity_recipe(tmp_path, student={"model": {"from_teacher": {"layers": "first:1"}}})
    with pytest.raises(ValueError, match=r"from_teacher: a student cannot be cut out of a 'parity_mlp' model"):
        check_before_training(recipe, task_of(recipe), Workspace(tmp_path), cells_of(recipe))
