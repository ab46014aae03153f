from __future__ import annotations

import pytest

from hf_distill.recipe.blocks import check_free, check_model, check_name, check_seed, check_training, require


def test_messages_name_the_place_that_is_given():
    """The same blocks stand below the student, the teacher, its assistants and the members of an ensemble."""
    path = "teacher.assistants[2]"
    for check, value in (
        (check_model, {}),
        (check_training, {"seed": 1}),
        (check_name, {}),
        (check_free, float("nan")),
        (check_seed, -1),
    ):
        with pytest.raises(ValueError, match=r"^teacher\.assistants\[2\]"):
            check(value, path)


def test_what_would_be_passed_over_in_silence_is_refused():
    with pytest.raises(ValueError, match=r"^training\.resume_from_checkpoint: not here; .*goes on by itself"):
        check_training({"resume_from_checkpoint": "runs/x/checkpoint-3"}, "training")


def test_sound_blocks_pass():
    check_model({"architecture": "bert", "config": {}}, "x")
    check_model({"pretrained": "org/model", "revision": "main"}, "x")
    check_training({"max_steps": 3, "learning_rate": 1e-3}, "x")
    check_free({"a": [1, 2.5, None, True, {"b": "c"}]}, "x")
    check_seed(2**32 - 1, "x")
    assert check_name({"name": "parity"}, "task") is None


def test_a_condition_that_does_not_hold_is_said_in_the_given_words():
    require(True, "not said")
    with pytest.raises(ValueError, match="these very words"):
        require(False, "these very words")
