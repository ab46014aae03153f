from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import flat_weights
from tiny_recipes import parity_recipe, untaught

from hf_distill.pipeline.cells import build_trainer, cells_of, distilled_cells_of, one_of_each, task_of
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe


def test_every_curriculum_meets_every_seed(tmp_path):
    cells = cells_of(parity_recipe(tmp_path, seeds=[3, 1]))
    assert [(cell.label, cell.seed) for cell in cells] == [
        ("labels", 3), ("labels", 1), ("cold", 3), ("cold", 1), ("two_shot", 3), ("two_shot", 1),
    ]  # fmt: skip
    assert cells[2].curriculum == {"name": "one_shot", "temperature": 0.0}


def test_one_of_each_curriculum_is_its_first(tmp_path):
    first = one_of_each(cells_of(parity_recipe(tmp_path, seeds=[3, 1])))
    assert [(cell.label, cell.seed) for cell in first] == [("labels", 3), ("cold", 3), ("two_shot", 3)]


def test_a_single_curriculum_goes_by_its_name(tmp_path):
    assert [cell.label for cell in cells_of(untaught(tmp_path))] == ["labels"]


def test_a_curriculums_own_training_overrides_that_of_the_recipe_only(tmp_path):
    compare = {"a": {"name": "labels", "training": {"max_steps": 3}}, "b": {"name": "labels"}}
    recipe = parity_recipe(tmp_path, compare=compare)
    a, b = cells_of(recipe)
    assert (a.training["max_steps"], b.training["max_steps"]) == (3, 80)
    assert a.training["learning_rate"] == b.training["learning_rate"] == 0.5
    assert "training" not in a.curriculum
    assert recipe.compare == compare, "the recipe itself stays as it was written"


def test_an_unknown_task_or_field_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"Unknown task 'paritty'\. Did you mean 'parity'"):
        task_of(untaught(tmp_path, task={"name": "paritty"}))
    with pytest.raises(ValueError, match=r"task\.dd: unknown key"):
        task_of(untaught(tmp_path, task={"name": "parity", "dd": 10}))


def first_batch_and_weights(recipe: Recipe, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    cell, workspace = cells_of(recipe)[index], Workspace(Path(recipe.output_dir))
    trainer = build_trainer(cell, recipe, task_of(recipe), None, workspace, labels_only=True)
    return next(iter(trainer.get_train_dataloader()))["inputs"], flat_weights(trainer.model)


def test_a_seed_gives_one_start_and_one_order_under_every_curriculum(tmp_path):
    """Curricula are compared on equal terms, whatever was drawn before."""
    recipe = parity_recipe(tmp_path, seeds=[0, 1])
    inputs, weights = first_batch_and_weights(recipe, 0)
    torch.rand(17)
    same_inputs, same_weights = first_batch_and_weights(recipe, 2)
    other_inputs, other_weights = first_batch_and_weights(recipe, 1)
    assert torch.equal(inputs, same_inputs)
    assert torch.equal(weights, same_weights)
    assert not torch.equal(inputs, other_inputs)
    assert not torch.equal(weights, other_weights)


def test_a_recipe_that_only_fine_tunes_has_no_students_to_distil(tmp_path):
    block = {"name": "more", "task": {"name": "parity"}}
    fields = {"compare": None, "student": {"model": {"pretrained": "org/student"}}, "finetune": [block]}
    recipe = parity_recipe(tmp_path, **fields)
    assert cells_of(recipe) == []
    with pytest.raises(ValueError, match="no curriculum: it distils nothing"):
        distilled_cells_of(recipe)
    assert len(distilled_cells_of(parity_recipe(tmp_path))) == 3
