from __future__ import annotations

from pathlib import Path

import pytest
from student_cases import LAYERS, logits_by_hand, logits_of, teacher_of
from tiny_recipes import text_recipe, write_text
from transformers import AutoModelForMaskedLM

from hf_distill.pipeline.cells import task_of
from hf_distill.pipeline.making import batches_to_look_at, data_text, put_student
from hf_distill.recipe.recipe import Recipe
from hf_distill.student_making.cut import StudentCut


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A masked language model on disk whose third layer does almost nothing."""
    folder = tmp_path_factory.mktemp("teacher")
    model = teacher_of("bert", vocab_size=320, num_hidden_layers=LAYERS)
    layer = model.bert.encoder.layer[2]
    for dense, norm in ((layer.attention.output, layer.attention.output), (layer.output, layer.output)):
        dense.dense.weight.data.mul_(1e-3)
        dense.dense.bias.data.mul_(1e-3)
        norm.LayerNorm.weight.data.fill_(1.0)
        norm.LayerNorm.bias.data.zero_()
    model.float().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("recipe")
    return text_recipe(folder / "run", write_text(folder / "text", documents=20), "masked_lm")


def test_what_was_said_is_what_was_done(teacher, tmp_path):
    stages: list[str] = []
    kept = put_student(
        str(teacher), tmp_path / "out", StudentCut(layers="first:2"), on_stage=lambda what, parts: stages.append(what)
    )
    assert stages == ["Finding the teacher", "Choosing what stays", "Writing the student"]
    assert kept.new
    assert kept.origin.commit.startswith("sha256:")
    assert kept.origin.teacher == str(teacher)
    student = AutoModelForMaskedLM.from_pretrained(tmp_path / "out").double().eval()
    whole = AutoModelForMaskedLM.from_pretrained(teacher).double().eval()
    assert (logits_of(student) - logits_by_hand(whole, [1, 2])).abs().max() < 1e-6


def test_the_same_student_is_not_made_twice_and_another_not_over_it(teacher, tmp_path):
    cut = StudentCut(layers="first:1")
    put_student(str(teacher), tmp_path / "out", cut)
    before = (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns
    assert not put_student(str(teacher), tmp_path / "out", cut).new
    with pytest.raises(ValueError, match="is there and not empty; nothing was changed"):
        put_student(str(teacher), tmp_path / "out", StudentCut(layers="first:2"))
    assert (tmp_path / "out" / "model.safetensors").stat().st_mtime_ns == before


def test_a_recipe_gives_the_data_to_choose_by(teacher, recipe, tmp_path):
    cut = StudentCut(layers="cka:3", examples=16)
    parts: list[int] = []
    forwards: list[int] = []
    kept = put_student(
        str(teacher),
        tmp_path / "out",
        cut,
        recipe=recipe,
        on_stage=lambda what, count: parts.append(count),
        on_batch=lambda: forwards.append(1),
    )
    assert kept.origin.layers == {"layers": [1, 2, 4]}
    assert kept.origin.data.startswith("16 training examples of ")
    assert parts == [0, 2, 0]
    assert len(forwards) == 2


def test_a_teacher_that_cannot_read_the_data_is_refused(recipe, tmp_path):
    teacher_of("bert", vocab_size=20, num_hidden_layers=2).save_pretrained(tmp_path / "small")
    with pytest.raises(ValueError, match=r"small: its vocabulary has 20 entries"):
        put_student(str(tmp_path / "small"), tmp_path / "out", StudentCut(layers="cka:1"), recipe=recipe)
    assert not (tmp_path / "out").exists()


def test_a_choice_by_data_without_a_recipe_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"name a recipe with its task and data \(--recipe\)"):
        put_student("nowhere", tmp_path / "out", StudentCut(layers="cka:3"))


def test_as_many_examples_are_looked_at_as_there_are(recipe, tmp_path):
    data = task_of(recipe).prepare(seed=0, cache_dir=tmp_path)
    there = len(data.train)
    cut = StudentCut(layers="cka:1", examples=there + 5)
    assert data_text(cut, data).startswith(f"{there} training examples of ")
    loader = batches_to_look_at(recipe, cut, data)
    assert sum(len(batch["input_ids"]) for batch in loader) == there
    assert loader.batch_size == 8
