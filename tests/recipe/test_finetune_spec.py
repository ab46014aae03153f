"""A `finetune:` block that cannot be run is refused with its key path and what to do, before anything is trained."""

from __future__ import annotations

import pytest
from finetunes import other_text
from tiny_recipes import parity_mapping, parity_recipe

from hf_distill.recipe.recipe import Recipe


@pytest.fixture
def block(tmp_path):
    return other_text(tmp_path)


def test_blocks_come_back_equal_from_yaml(block, tmp_path):
    recipe = parity_recipe(tmp_path / "run", finetune=[block, {**block, "name": "more", "seeds": [0]}])
    recipe.save(tmp_path / "recipe.yaml")
    assert Recipe.load(tmp_path / "recipe.yaml") == recipe
    assert recipe.finetune[0].from_scratch
    assert not recipe.finetune[0].teacher


def test_fine_tunings_do_not_make_it_another_run(block, tmp_path):
    recipes = [parity_recipe(tmp_path, finetune=blocks) for blocks in ([], [block])]
    assert recipes[0].fingerprint() == recipes[1].fingerprint()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"name": "a/b"}, r"finetune\[0\]\.name: 'a/b' names a folder"),
        ({"task": {}}, r"finetune\[0\]\.task\.name: expected the name of a task"),
        ({"task": {"name": "glue", "tokenizer": {"pretrained": "x"}}}, r"finetune\[0\]\.task\.tokenizer: not here"),
        ({"training": {"output_dir": "x"}}, r"finetune\[0\]\.training\.output_dir: not here"),
        ({"training": {"seed": 3}}, r"finetune\[0\]\.training\.seed: not here"),
        ({"seeds": []}, r"finetune\[0\]\.seeds: empty"),
        ({"seeds": [0, 0]}, r"finetune\[0\]\.seeds: \[0, 0\] lists a seed twice"),
        ({"seeds": [7]}, r"finetune\[0\]\.seeds\[0\]: no student of seed 7 is distilled, only of \[0\]"),
        ({"from_scrach": False}, r"finetune\[0\]\.from_scrach: unknown key.*Did you mean `from_scratch`"),
    ],
)
def test_what_cannot_be_run_is_named(block, tmp_path, change, match):
    with pytest.raises(ValueError, match=match):
        parity_recipe(tmp_path, finetune=[{**block, **change}])


def test_two_blocks_of_one_name_would_share_a_folder(block, tmp_path):
    with pytest.raises(ValueError, match=r"finetune\[0\]\.name: 'other' is there twice"):
        parity_recipe(tmp_path, finetune=[block, block])


def test_a_curriculum_may_not_have_the_label_of_a_baseline(block, tmp_path):
    compare = {"from_scratch": {"name": "labels"}, "cold": {"name": "one_shot"}}
    with pytest.raises(ValueError, match=r"finetune\[0\]\.from_scratch: a curriculum has this label too"):
        parity_recipe(tmp_path, compare=compare, finetune=[block])
    assert parity_recipe(tmp_path, compare=compare, finetune=[{**block, "from_scratch": False}])


def test_a_teacher_that_is_not_one_model_cannot_be_fine_tuned(block, tmp_path):
    ensemble = {"ensemble": {"members": [{"source": "a"}, {"source": "b"}]}}
    with pytest.raises(ValueError, match=r"finetune\[0\]\.teacher: there is no one teacher"):
        parity_recipe(
            tmp_path, teacher=ensemble, compare={"x": {"name": "one_shot"}}, finetune=[{**block, "teacher": True}]
        )


def test_without_a_curriculum_there_must_be_a_trained_student(block, tmp_path):
    nothing = {"compare": None, "curriculum": None, "teacher": None}
    with pytest.raises(
        ValueError, match=r"curriculum: missing, so that nothing is distilled and `finetune` would begin"
    ):
        parity_recipe(tmp_path, **nothing, finetune=[block])
    given = {**nothing, "student": {"model": {"pretrained": "org/student"}}}
    assert parity_recipe(tmp_path, **given, finetune=[{**block, "seeds": [5, 6]}]).curricula() == {}
    with pytest.raises(ValueError, match=r"^curriculum: missing; give `curriculum"):
        parity_recipe(tmp_path, **given)


def test_a_recipe_that_distils_nothing_trains_no_teacher(block, tmp_path):
    mapping = parity_mapping(tmp_path, compare=None, student={"model": {"pretrained": "org/student"}})
    mapping["finetune"] = [{**block, "teacher": True}]
    with pytest.raises(ValueError, match=r"finetune\[0\]\.teacher: this recipe distils nothing"):
        Recipe.from_dict(mapping)
    mapping["teacher"] = {"source": "org/teacher"}
    assert Recipe.from_dict(mapping).finetune[0].teacher


def test_an_adapter_alone_is_no_student_to_fine_tune(block, tmp_path):
    student = {"model": {"pretrained": "org/base"}, "lora": {"r": 2}, "export": "adapter"}
    with pytest.raises(ValueError, match=r"finetune: begins with a student's whole weights.*student\.export: merged"):
        parity_recipe(tmp_path, student=student, finetune=[block])
    assert parity_recipe(tmp_path, student={**student, "export": "merged"}, finetune=[block])
