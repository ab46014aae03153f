from __future__ import annotations

import pytest
from teaching_recipes import TEACHERS

from hf_distill.recipe.teacher_spec import ModelSpec, TeacherSpec
from hf_distill.recipe.teaching import kind_of, model_text, roles, source_text, students_learn_from, training_of
from hf_distill.strict_dataclass import from_mapping


def spec(kind: str) -> TeacherSpec:
    return from_mapping(TeacherSpec, TEACHERS[kind])


def test_everyone_who_takes_part_is_listed_in_the_order_of_training():
    assert [tuple(role) for role in roles(spec("takd"))] == [
        ("teacher", "parity_mlp (width 64)", "labels"),
        ("assistant 1", "parity_mlp (width 48)", "the teacher, by one_shot"),
        ("assistant 2", "parity_mlp (width 40)", "assistant 1, by one_shot"),
        ("students", "", "assistant 2"),
    ]
    assert [role.name for role in roles(spec("ensemble"))] == ["member 1", "member 2", "students"]
    assert [role.name for role in roles(spec("ema"))] == ["students"]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("takd", "assistant 2"),
        ("ladder", "a ladder: assistant 2 < assistant 1 < the teacher; chosen by loss, open linear 0→3"),
        ("ensemble", "an ensemble of 2 (mean of probabilities)"),
        ("pruned_mix", "the teacher mixed with its pruned copy (30 % zeroed, 0.3 of the mix)"),
        ("ema", "their own moving average"),
    ],
)
def test_whom_the_students_hear_is_said(kind, text):
    assert students_learn_from(spec(kind)) == text
    assert kind_of(spec(kind)) == {"takd": "assistant"}.get(kind, kind)


def test_an_assistant_from_labels_learned_from_nobody():
    assert roles(spec("ladder"))[2].learns_from == "labels"


def test_one_model_is_a_teacher():
    one = TeacherSpec(source="org/m@step*")
    assert kind_of(one) == "teacher"
    assert [tuple(role) for role in roles(one)] == [("teacher", "org/m@step*", ""), ("students", "", "the teacher")]


def test_sources_and_models_are_named_as_they_were_written():
    assert source_text(ModelSpec(source=["a", "b"])) == "a, b"
    assert source_text(ModelSpec(source={"revisions": "org/m", "every": 2})) == "org/m"
    assert source_text(from_mapping(ModelSpec, {"train": {"model": {}}})) == "trained by this recipe"
    assert model_text({"pretrained": "org/m", "revision": "v1"}) == "org/m@v1"
    assert model_text({"architecture": "bert", "config": {"hidden_size": 8}}) == "bert (hidden size 8)"


def test_what_is_not_trained_has_no_training():
    with pytest.raises(ValueError, match="org/m is not trained by this recipe"):
        training_of(ModelSpec(source="org/m"))
