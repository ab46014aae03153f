from __future__ import annotations

import json

import pytest
from student_cases import teacher_of

from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.making import make_student
from hf_distill.student_making.origin import ORIGIN_FILE, StudentOrigin, ranges


def origin_of(name: str, **cut) -> StudentOrigin:
    return make_student(teacher_of(name), StudentCut(**cut), source="org/teacher").origin


def test_an_origin_is_read_back(tmp_path):
    origin = origin_of("qwen2", layers="first:2", num_attention_heads=2)
    (tmp_path / ORIGIN_FILE).write_text(json.dumps(origin.to_dict()))
    assert StudentOrigin.load(tmp_path) == origin


@pytest.mark.parametrize(
    ("name", "cut", "text"),
    [
        ("bert", {"layers": [1, 2, 4]}, "bert cut out of its teacher: layers 1–2, 4 of 4"),
        ("gpt2", {"hidden_size": 8}, "all 4 layers, hidden size 8 of 16, num attention heads 2 of 4"),
        ("t5", {"decoder_layers": "last:1"}, "t5 cut out of its teacher: all 4 encoder layers, decoder layers 4 of 4"),
        ("qwen2", {"num_attention_heads": 2}, "num attention heads 2 of 4, num key value heads 1 of 2"),
    ],
)
def test_one_line_says_what_was_kept(name, cut, text):
    assert text in origin_of(name, **cut).describe()


def test_numbers_in_a_row_are_one_range():
    assert ranges([1, 2, 3, 6, 8, 9]) == "1–3, 6, 8–9"


def test_a_folder_without_an_origin_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no student_origin\.json"):
        StudentOrigin.load(tmp_path)
    (tmp_path / ORIGIN_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"student_origin\.json is no JSON"):
        StudentOrigin.load(tmp_path)
    (tmp_path / ORIGIN_FILE).write_text("{}")
    with pytest.raises(ValueError, match=r"student_origin\.json.*teacher: missing"):
        StudentOrigin.load(tmp_path)
