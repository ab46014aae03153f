from __future__ import annotations

from pathlib import Path

import pytest
from builders import word_tokenizer
from student_cases import teacher_of
from transformers import AutoTokenizer

from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.making import MadeStudent, make_student
from hf_distill.student_making.origin import StudentOrigin
from hf_distill.student_making.saving import refuse_what_is_there, save_student, student_there
from hf_distill.teachers.checkpoint_files import whole_checkpoint_problem

CUT = StudentCut(layers="first:1")


def made() -> MadeStudent:
    return make_student(teacher_of("bert"), CUT)


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    folder = tmp_path / "teacher"
    word_tokenizer("one", "two").save_pretrained(folder)
    (folder / "optimizer.pt").write_bytes(b"not for students")
    (folder / "model.safetensors").write_bytes(b"nor these")
    return folder


def test_the_folder_is_whole_with_the_teachers_tokenizer(tmp_path, beside):
    student = made()
    folder = save_student(student, tmp_path / "new" / "student", beside=beside)
    assert whole_checkpoint_problem(folder) is None
    assert StudentOrigin.load(folder) == student.origin
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == AutoTokenizer.from_pretrained(beside).get_vocab()
    assert (folder / "tokenizer.json").read_bytes() == (beside / "tokenizer.json").read_bytes()
    assert not (folder / "optimizer.pt").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["student"]


def test_a_folder_that_holds_something_is_left_alone(tmp_path):
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is there and not empty; nothing was changed"):
        save_student(made(), tmp_path / "student")
    with pytest.raises(ValueError, match="is a file"):
        refuse_what_is_there(tmp_path / "student" / "notes.txt")
    assert [path.name for path in (tmp_path / "student").iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    assert save_student(made(), tmp_path / "empty").is_dir()


def test_a_write_that_fails_leaves_nothing(tmp_path):
    student = made()
    broken = student._replace(origin=None)
    with pytest.raises(AttributeError, match="to_dict"):
        save_student(broken, tmp_path / "student")
    assert list(tmp_path.iterdir()) == []


def test_the_same_student_is_known_again(tmp_path):
    folder = save_student(made(), tmp_path / "student")
    assert student_there(folder, commit="", cut=CUT) == StudentOrigin.load(folder)
    assert student_there(folder, commit="sha256:1", cut=CUT) is None
    assert student_there(folder, commit="", cut=StudentCut(layers="first:2")) is None
    assert student_there(folder, commit="", cut=CUT, data="other") is None
    assert student_there(tmp_path, commit="", cut=CUT) is None
