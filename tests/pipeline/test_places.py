"""What is wrong with a block is said with its place in the recipe, and nothing else is renamed."""

from __future__ import annotations

import pytest

from hf_distill.pipeline.places import at, said_of


def said(message: str, *, block: str = "model", path: str = "student.model") -> str:
    with pytest.raises(ValueError, match=r"\w") as caught, said_of(block, path):
        raise ValueError(message)
    return str(caught.value)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("model.config.width: unknown key", "student.model.config.width: unknown key"),
        ("model: its vocabulary has 3 entries", "student.model: its vocabulary has 3 entries"),
        ("models differ", "models differ"),
        ("data.path: a model", "data.path: a model"),
    ],
)
def test_only_what_is_about_the_block_gets_its_place(message, shown):
    assert said(message) == shown


def test_a_block_at_its_own_place_keeps_its_name():
    assert said("curriculum.steps: x", block="curriculum", path="curriculum") == "curriculum.steps: x"


def test_other_errors_pass():
    with pytest.raises(KeyError), said_of("model", "student.model"):
        raise KeyError("model.x")


def test_a_path_is_put_in_front_of_everything():
    with pytest.raises(ValueError, match=r"^teacher\.route: too few"), at("teacher.route"):
        raise ValueError("too few")
