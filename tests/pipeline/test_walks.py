from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_recipes import parity_recipe, text_recipe

from hf_distill.pipeline.cells import cells_of, task_of
from hf_distill.pipeline.teacher import open_teacher
from hf_distill.pipeline.walks import fingerprint_of, max_length_of, taught_cells, walk_of, walks_of
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe


def fingerprint(recipe: Recipe, *, chosen: str | None = None, place: int = 0) -> str:
    cell, task = taught_cells(recipe)[place], task_of(recipe)
    return fingerprint_of(cell, task.prepare(seed=cell.seed, cache_dir=Path("unused")), chosen=chosen)


def test_students_of_labels_are_left_out(tmp_path: Path) -> None:
    recipe = parity_recipe(tmp_path, seeds=[0, 1])
    assert [(cell.label, cell.seed) for cell in taught_cells(recipe)] == [
        ("cold", 0),
        ("cold", 1),
        ("two_shot", 0),
        ("two_shot", 1),
    ]


def test_what_decides_the_examples_decides_the_fingerprint(tmp_path: Path) -> None:
    recipe = parity_recipe(tmp_path)

    def changed(**changes: Any) -> Recipe:
        return parity_recipe(tmp_path, **changes)

    training = recipe.training
    others = [
        fingerprint(changed(training={**training, "max_steps": 81})),
        fingerprint(changed(training={**training, "per_device_train_batch_size": 25})),
        fingerprint(changed(seeds=[1])),
        fingerprint(changed(task={**recipe.task, "d": 11})),
        fingerprint(changed(compare={"cold": {"name": "one_shot", "temperature": 0.5}})),
        fingerprint(recipe, place=1),
        fingerprint(recipe, place=1, chosen="checkpoint-40"),
    ]
    assert len({fingerprint(recipe), *others}) == 1 + len(others)
    same = [
        changed(training={**training, "deepspeed": "zero.json"}),
        changed(student={"model": {"architecture": "parity_mlp", "config": {"width": 16}}}),
        changed(level=0.5),
    ]
    assert {fingerprint(one) for one in same} == {fingerprint(recipe)}


def test_a_walk_is_that_of_the_students_training(tmp_path: Path, finished: Any) -> None:
    recipe, workspace = finished.copy(tmp_path / "run"), Workspace(tmp_path / "run")
    task, teacher = task_of(recipe), open_teacher(recipe, workspace)
    cell = next(cell for cell in cells_of(recipe) if cell.label == "two_shot")
    walk = walk_of(cell, recipe, task, teacher, workspace, chosen="checkpoint-40", scratch=tmp_path / "scratch")
    assert walk.args.seed == cell.seed == walk.args.data_seed
    assert walk.args.max_steps == 80
    plan = walk.plan()
    assert [teacher.revisions[stage.revision].name for stage in plan.stages] == ["checkpoint-40", "checkpoint-160"]
    assert plan.switches == [20]


def test_engines_and_pushes_of_the_training_are_left_out(tmp_path: Path, finished: Any) -> None:
    recipe = finished.copy(tmp_path / "run")
    recipe.training.update(push_to_hub=True, hub_model_id="org/name", deepspeed="not-there.json")
    workspace, task = Workspace(tmp_path / "run"), task_of(recipe)
    walks = walks_of(
        recipe,
        task,
        open_teacher(recipe, workspace),
        workspace,
        taught_cells(recipe),
        chosen="checkpoint-40",
        scratch=tmp_path / "scratch",
    )
    first = next(walks)
    assert not first.args.push_to_hub
    assert first.args.deepspeed is None
    assert first.fingerprint != next(walks).fingerprint


@pytest.mark.parametrize(("task", "length"), [("masked_lm", 16), ("causal_lm", 16)])
def test_the_length_of_texts_is_known(tmp_path: Path, task: str, length: int) -> None:
    assert max_length_of(task_of(text_recipe(tmp_path, tmp_path, task))) == length
    assert max_length_of(task_of(parity_recipe(tmp_path))) is None
