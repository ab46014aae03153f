from __future__ import annotations

from pathlib import Path

import pytest
from student_cases import teacher_of
from tiny_recipes import text_recipe, write_text


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "t5"
    teacher_of("t5").float().save_pretrained(folder)
    return folder


def test_the_table_shows_the_student_beside_its_teacher(hf_distill, teacher, tmp_path):
    cut = ["--layers", "spaced:2", "--decoder-layers", "4", "--heads", "2", "--ffn", "8", "--choose", "norm"]
    shown = hf_distill("student", "make", teacher, tmp_path / "out", *cut)
    assert shown.code == 0, shown.err
    assert "T5ForConditionalGeneration teacher student" in shown.lines
    for line in ("encoder layers 4 2: 2, 4", "decoder layers 4 1: 4", "num attention heads 4 2"):
        assert line in shown.lines
    assert shown.lines[-1] == f"student: {tmp_path / 'out'}"
    described = hf_distill("student", "describe", tmp_path / "out")
    assert "intermediate size 32 8" in described.lines
    assert f"teacher: {teacher} (sha256:" in described.lines[-1]
    again = hf_distill("student", "make", teacher, tmp_path / "out", *cut)
    assert again.lines[-1].endswith("holds this student already; nothing was written")


def test_a_folder_with_something_else_is_one_line_of_error(hf_distill, teacher, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    shown = hf_distill("student", "make", teacher, tmp_path, "--layers", "first:1")
    assert shown.code == 2
    assert shown.err.strip().startswith("Error: ")
    assert "nothing was changed" in shown.err
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "spaces:3"], "Did you mean `spaced`?"),
        (["--layers", "2,,4"], "--layers: '2,,4' is no list of layers; write 2,4,6"),
        (["--layers", "9"], "layers: asks for 9 layers of the encoder, but there are 4"),
        (["--heads", "9"], "num_attention_heads: a student is cut out of its teacher, which has 4; 9 is more"),
        (["--layers", "cka:2"], "name a recipe with its task and data (--recipe)"),
    ],
)
def test_what_cannot_be_cut_is_said(hf_distill, teacher, tmp_path, options, message):
    shown = hf_distill("student", "make", teacher, tmp_path / "out", *options)
    assert shown.code == 2
    assert message in " ".join(shown.err.split())
    assert not (tmp_path / "out").exists()


def test_lists_are_read_with_and_without_brackets(hf_distill, teacher, tmp_path):
    for place, layers in enumerate(("1,3", "[1, 3]")):
        shown = hf_distill("student", "make", teacher, tmp_path / str(place), "--layers", layers)
        assert "encoder layers 4 2: 1, 3" in shown.lines


def test_data_is_that_of_a_recipe(hf_distill, tmp_path):
    teacher_of("bert", vocab_size=320).float().save_pretrained(tmp_path / "teacher")
    text_recipe(tmp_path / "run", write_text(tmp_path / "text", documents=20), "masked_lm").save(tmp_path / "r.yaml")
    options = ["--layers", "sensitivity:2", "--recipe", tmp_path / "r.yaml", "--examples", 8]
    shown = hf_distill("student", "make", tmp_path / "teacher", tmp_path / "out", *options)
    assert shown.code == 0, shown.err
    assert "of the parameters; chosen by 8 training examples of " in shown.out


def test_the_help_has_examples_and_every_family(hf_distill):
    shown = hf_distill("student", "make", "--help")
    assert "Examples: hf-distill student make org/bert students/bert-3 --layers spaced:3" in shown.lines
    assert "Marian" in shown.out
