from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_recipes import SGD, parity_mapping

from hf_distill.pipeline.cells import Cell, cells_of, task_of
from hf_distill.pipeline.checks import (
    check_before_training,
    check_plans,
    refuse_pushes_over_one_another,
    refuse_what_another_recipe_makes,
)
from hf_distill.pipeline.teacher import open_teacher, train_teacher
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe


def check(recipe: Recipe) -> None:
    check_before_training(recipe, task_of(recipe), Workspace(Path(recipe.output_dir)), cells_of(recipe))


def recipe_with(folder: Path, curriculum: dict[str, Any], **changes: Any) -> Recipe:
    return Recipe.from_dict(parity_mapping(folder, compare={"labels": {"name": "labels"}, "x": curriculum}, **changes))


def nothing_was_trained(folder: Path) -> bool:
    return not any(folder.rglob("checkpoint-*")) and not any(folder.rglob("*.safetensors"))


def test_a_sound_recipe_passes_and_leaves_no_file(tmp_path):
    curricula = [
        {"name": "two_shot", "revision": 40, "steps": 20},
        {"name": "two_shot", "revision": "auto", "share": 0.5},
        {"name": "n_shot", "interval": 20, "speed": 2.0},
        {"name": "adaptive", "revisions": ["auto"], "level": 0.7},
        {"name": "one_shot", "label_mix": 0.5},
    ]
    for curriculum in curricula:
        check(recipe_with(tmp_path / "run", curriculum))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("curriculum", "said"),
    [
        ({"name": "two_shot", "revision": 999, "steps": 20}, r"x: .*no revision 999; it has checkpoint-20, .*-160"),
        ({"name": "two_shot", "revision": 160, "steps": 20}, r"x: .*'checkpoint-160' is the final teacher itself"),
        ({"name": "two_shot", "steps": 80}, r"x: .*80 steps must lie strictly between 0 and the run's 80 steps"),
        ({"name": "two_shot", "stepz": 20}, r"compare\.x\.stepz: unknown key\. Did you mean `steps`"),
        ({"name": "two_shott"}, r"Unknown curriculum 'two_shott'. Did you mean 'two_shot'"),
        ({"name": "one_shot", "objectives": [{"name": "forward_kll"}]}, r"'forward_kll'\. Did you mean 'forward_kl'"),
        ({"name": "one_shot", "objectives": [{"name": "forward_kl", "temp": 1}]}, r"objectives\[0\]\.temp: unknown"),
        (
            {"name": "one_shot", "objectives": [{"name": "teacher_mean_squared_error"}]},
            "does not fit a classification",
        ),
        ({"name": "one_shot", "label_mix": 1.5}, r"label_mix: must stay within \[0, 1\]"),
        ({"name": "adaptive", "level": 0.5, "training": {"eval_strategy": "no"}}, "eval_strategy is 'no'"),
        ({"name": "one_shot", "training": {"max_stepz": 3}}, r"max_stepz: unknown key\. Did you mean `max_steps`"),
        ({"name": "adaptive", "level": 0.5, "training": {"at_switch": "restart"}}, r"x: .*Use reset_optimizer"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_mistake_in_a_curriculum_surfaces_before_the_teacher_is_trained(tmp_path, curriculum, said):
    with pytest.raises(ValueError, match=said):
        check(recipe_with(tmp_path, curriculum))
    assert nothing_was_trained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"student": {"model": {"architecture": "parity_mlpp"}}}, "Did you mean `parity_mlp`"),
        ({"student": {"model": {"architecture": "parity_mlp", "config": {"widht": 3}}}}, "Did you mean `width`"),
        ({"student": {"model": {"architecture": "bert"}}}, "does not read `inputs: vector`"),
        ({"task": {"name": "parity", "d": 10, "k": 11}}, r"task: k: expected 1 to d = 10"),
        ({"training": {**SGD, "learning_rate": "fast"}}, r"training\.learning_rate: expected float"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_mistake_in_task_student_or_training_surfaces_before_the_teacher_is_trained(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        check(recipe_with(tmp_path, {"name": "one_shot"}, **changes))
    assert nothing_was_trained(tmp_path)


def test_a_mistake_in_the_teachers_own_training_names_its_block(tmp_path):
    mapping = parity_mapping(tmp_path)
    mapping["teacher"]["train"]["training"]["save_step"] = 3
    with pytest.raises(
        ValueError, match=r"^teacher\.train\.training\.save_step: unknown key\. Did you mean `save_steps`"
    ):
        check(Recipe.from_dict(mapping))


def test_a_quantiser_that_is_not_here_is_missed_before_the_teachers_training(tmp_path):
    recipe = Recipe.from_dict(parity_mapping(tmp_path / "run"))
    recipe.teacher.quantization = {"quant_method": "eetq"}
    with pytest.raises(ValueError, match=r"teacher\.quantization: eetq cannot be used here"):
        check(recipe)
    assert nothing_was_trained(tmp_path)


def test_a_value_of_a_curriculum_is_named_by_its_key(tmp_path):
    compare = {"labels": {"name": "labels"}, "cold": {"name": "one_shot", "temperature": -1.0}}
    with pytest.raises(ValueError, match=r"^compare\.cold\.objectives\[0\]\.temperature: must stay within"):
        check(Recipe.from_dict(parity_mapping(tmp_path / "run", compare=compare)))
    single = parity_mapping(tmp_path / "run", compare=None, curriculum=compare["cold"])
    with pytest.raises(ValueError, match=r"^curriculum\.objectives\[0\]\.temperature: must stay within"):
        check(Recipe.from_dict(single))
    assert nothing_was_trained(tmp_path)


def test_plans_are_laid_out_over_the_revisions_that_there_are(tmp_path):
    """`stop_at` may end the teacher before a revision that its arguments promise."""
    mapping = parity_mapping(tmp_path, compare={"x": {"name": "two_shot", "revision": 140, "steps": 20}})
    mapping["teacher"]["train"]["stop_at"] = {"metric": "accuracy", "level": 0.9}
    recipe = Recipe.from_dict(mapping)
    task, workspace, cells = task_of(recipe), Workspace(tmp_path), cells_of(recipe)
    check_before_training(recipe, task, workspace, cells)
    train_teacher(recipe, task, workspace)
    with pytest.raises(ValueError, match=r"^compare\.x: .*no revision 140; it has checkpoint-20$"):
        check_plans(recipe, task, open_teacher(recipe, workspace), workspace, cells, chosen=None)


def test_auto_with_a_single_revision_says_so(tmp_path):
    mapping = parity_mapping(tmp_path / "run", compare={"x": {"name": "two_shot", "steps": 20}})
    mapping["teacher"]["train"]["training"]["save_steps"] = 160
    with pytest.raises(ValueError, match=r"^compare\.x: no revision can be chosen by `auto`: the teacher has one"):
        check(Recipe.from_dict(mapping))


def test_auto_without_a_transition_says_why(tmp_path, finished):
    recipe = finished.copy(tmp_path / "run")
    teacher, cells = open_teacher(recipe, Workspace(tmp_path / "run")), cells_of(recipe)
    with pytest.raises(ValueError, match="two_shot: no revision can be chosen by `auto`: it never learnt"):
        check_plans(
            recipe,
            task_of(recipe),
            teacher,
            Workspace(tmp_path / "run"),
            cells,
            chosen=None,
            problem="it never learnt",
        )


def test_students_that_would_be_pushed_over_one_another_are_refused(tmp_path):
    training = {"push_to_hub": True, "hub_model_id": "org/student"}
    cells = [Cell(label, {"name": label}, training, 0) for label in ("labels", "one_shot")]
    with pytest.raises(ValueError, match=r"2 students would be pushed to 'org/student'.*hf-distill push"):
        refuse_pushes_over_one_another(cells)
    refuse_pushes_over_one_another(cells[:1])
    refuse_pushes_over_one_another([Cell("labels", {"name": "labels"}, {}, seed) for seed in (0, 1)])


def test_a_teacher_that_another_recipe_makes_is_told_with_that_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.load("intra_distillation/round_2")
    with pytest.raises(ValueError, match=r"^teacher\.source: .* hf-distill run intra_distillation/round_1$"):
        check(recipe)
    assert not any(tmp_path.iterdir())
    Path(recipe.teacher.source).mkdir(parents=True)
    with pytest.raises(ValueError, match="holds neither checkpoint-"):
        check(recipe)


@pytest.mark.parametrize(
    ("changes", "key", "other"),
    [
        (
            {"teacher": {"source": "runs/bert-python-docs/teacher"}},
            "teacher.source",
            "language_models/bert_python_docs",
        ),
        (
            {"student": {"model": {"pretrained": "runs/peft-cut-and-adapt/students/one_shot/seed-0"}}},
            "student.model.pretrained",
            "peft/cut_and_adapt",
        ),
    ],
)
def test_what_another_recipe_leaves_is_asked_for_by_that_recipe(tmp_path, monkeypatch, changes, key, other):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"^{key}: .* comes from another recipe.*hf-distill run {other}$"):
        refuse_what_another_recipe_makes(recipe_with(tmp_path / "run", {"name": "one_shot"}, **changes))
