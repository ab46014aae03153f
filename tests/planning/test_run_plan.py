"""The plan of a tiny recipe, against what the run itself does."""

from __future__ import annotations

import json

import pytest
import torch
from plans import cell
from tiny_recipes import SGD, parity_recipe

from hf_distill.planning.run_plan import device_memory, distinct_examples, one_stage, plan_recipe


def test_a_plan_says_what_the_recipe_will_do(tmp_path):
    recipe = parity_recipe(tmp_path / "run", seeds=[0, 1])
    plan = plan_recipe(recipe, probe=False)
    assert {cell.label: (cell.students, cell.steps, cell.teacher_steps) for cell in plan.cells} == {
        "labels": (2, 80, 0),
        "cold": (2, 80, 80),
        "two_shot": (2, 80, 80),
    }
    assert plan.student.parameters == 10 * 32 + 32 + 32 * 2 + 2
    assert plan.teacher.parameters == 10 * 64 + 64 + 64 * 2 + 2
    assert plan.revisions == 8
    assert not (tmp_path / "run").exists()
    assert json.dumps(plan.to_dict())


def test_steps_that_cost_the_same_are_timed_once(tmp_path):
    plan = plan_recipe(parity_recipe(tmp_path / "run"))
    probes = {cell.label: cell.probe for cell in plan.cells}
    assert probes["labels"].teacher_share == 0.0 < probes["two_shot"].teacher_share
    assert probes["two_shot"] is not probes["cold"]  # Its temperature is another one.
    twin = {"name": "two_shot", "revision": "auto", "steps": 30}
    both = plan_recipe(parity_recipe(tmp_path / "b", compare={"a": {"name": "one_shot"}, "b": twin}))
    assert both.cells[0].probe is both.cells[1].probe


def test_passes_of_a_student_without_a_teacher_are_not_timed_as_one():
    intra = {"passes": 3, "alpha": 1.0}
    assert one_stage({"name": "labels", "intra": intra}, labels=True) == {"name": "labels", "intra": intra}
    two_shot = {"name": "two_shot", "revision": "auto", "temperature": 2.0, "intra": intra}
    assert one_stage(two_shot, labels=False) == {"name": "one_shot", "temperature": 2.0, "intra": intra}
    assert one_stage({"name": "annealing", "temperature": 2.0}, labels=True) == {"name": "labels"}


def test_how_the_teacher_is_asked_is_in_the_plan(tmp_path):
    training = {"gradient_accumulation_steps": 4, "teacher_window": True}
    plan = plan_recipe(parity_recipe(tmp_path / "run", training={**SGD, "max_steps": 80, **training}), probe=False)
    assert any("a window" in line.name for line in plan.memory)
    recipe = parity_recipe(tmp_path / "run")
    recipe.teacher.quantization = {"quant_method": "eetq"}
    with pytest.raises(ValueError, match=r"teacher\.quantization: eetq cannot be used here"):
        plan_recipe(recipe)


def test_targets_that_curricula_share_are_kept_once():
    plans = [cell(read={0: 50, 2: 500}), cell(read={2: 300})]
    assert distinct_examples(plans, examples=400) == 2 * 50 + 2 * 400


def test_a_typo_is_told_before_any_step(tmp_path):
    with pytest.raises(ValueError, match="Did you mean `learning_rate`"):
        plan_recipe(parity_recipe(tmp_path / "run", training={"learning_rat": 0.1}))


def test_a_curriculum_is_named_by_its_key(tmp_path):
    recipe = parity_recipe(tmp_path / "run", compare={"cold": {"name": "one_shot", "temperature": -1.0}})
    with pytest.raises(ValueError, match=r"^compare\.cold\.objectives\[0\]\.temperature: must stay within"):
        plan_recipe(recipe, probe=False)


def test_a_machine_has_memory():
    assert device_memory(torch.device("cpu")) > 10**9
