"""What a fine-tuning needs is built before the teacher is trained, with stand-ins that leave nothing behind."""

from __future__ import annotations

import pytest
from finetunes import QUICK, finetuned_recipe, other_text
from tiny_recipes import parity_recipe, text_recipe, write_text

from hf_distill.pipeline.cells import task_of
from hf_distill.pipeline.downstream_checks import check_downstream, check_finetune_keys, student_has_tokenizer
from hf_distill.pipeline.workspace import Workspace


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"training": {**QUICK, "learning_rte": 1}}, r"finetune\[0\]\.training\.learning_rte: unknown key"),
        ({"training": {**QUICK, "max_steps": "many"}}, r"finetune\[0\]\.training\.max_steps: expected int"),
        ({"task": {"name": "masked_lm", "mask_rat": 0.1}}, r"finetune\[0\]\.task\.mask_rat: unknown key"),
        ({"task": {"name": "masked_ml"}}, r"finetune\[0\]\.task\.name: .*masked_lm"),
    ],
)
def test_keys_are_checked_without_any_model_or_data(tmp_path, change, match):
    recipe = finetuned_recipe(tmp_path, block=change)
    with pytest.raises(ValueError, match=match):
        check_finetune_keys(recipe)


def test_a_sound_stage_leaves_nothing_but_data(tmp_path):
    recipe = finetuned_recipe(tmp_path, block={"teacher": True})
    workspace = Workspace(tmp_path / "checked")
    check_downstream(recipe, task_of(recipe), workspace)
    assert {path.name for path in (tmp_path / "checked").iterdir()} == {"cache"}


def test_a_recipe_without_the_stage_is_not_looked_at(tmp_path):
    recipe = parity_recipe(tmp_path / "run")
    check_downstream(recipe, task_of(recipe), Workspace(tmp_path / "checked"))
    assert not (tmp_path / "checked").exists()


def test_a_teacher_that_cannot_do_the_task_is_found_too(tmp_path):
    text = write_text(tmp_path / "text")
    block = other_text(text, teacher=True)
    block["task"]["max_length"] = 32
    bert = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    short = {"architecture": "bert", "config": {**bert, "max_position_embeddings": 16}}
    recipe = text_recipe(
        tmp_path / "run",
        text,
        "masked_lm",
        teacher={"train": {"model": short, "training": {**QUICK, "save_only_model": True}}},
        finetune=[block],
    )
    with pytest.raises(ValueError, match=r"finetune\[0\]\.task, from teacher: model: reads 16 positions"):
        check_downstream(recipe, task_of(recipe), Workspace(tmp_path / "checked"))


def test_students_of_text_have_a_tokenizer_and_others_none(tmp_path):
    text, parity = finetuned_recipe(tmp_path), parity_recipe(tmp_path / "parity")
    assert student_has_tokenizer(text, task_of(text), Workspace(tmp_path / "a"))
    assert not student_has_tokenizer(parity, task_of(parity), Workspace(tmp_path / "b"))
