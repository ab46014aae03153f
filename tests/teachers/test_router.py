from __future__ import annotations

import pytest

from hf_distill.strict_dataclass import from_mapping
from hf_distill.teachers.router import DifficultyRouter, opened

THIRDS = {"name": "linear", "start": 0.0, "stop": 3.0}


def test_all_experts_are_open_where_nothing_else_is_said():
    schedule = DifficultyRouter().schedule(3)
    assert [opened(schedule(progress), 3) for progress in (0.0, 0.5, 1.0)] == [3, 3, 3]


def test_a_line_from_nothing_opens_one_expert_after_the_other_in_equal_parts():
    schedule = DifficultyRouter(open=THIRDS).schedule(3)
    found = [opened(schedule(percent / 100), 3) for percent in range(101)]
    assert found == [1] * 34 + [2] * 33 + [3] * 34


def test_at_least_the_smallest_is_open():
    assert [opened(value, 4) for value in (0.0, 0.2, 1.0, 1.01, 4.0, 9.0)] == [1, 1, 1, 2, 4, 4]


def test_a_schedule_that_opens_more_than_there_are_is_refused():
    with pytest.raises(ValueError, match="open: must stay within 0 and the 2 experts of the ladder, but linear 0→3"):
        DifficultyRouter(open=THIRDS).schedule(2)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"examples": 1}, "route: examples: expected at least 2"),
        ({"open": {"name": "linaer"}}, "Unknown schedule 'linaer'. Did you mean 'linear'"),
        ({"difficulty": "size"}, r"route.difficulty: expected 'loss' or 'entropy', got"),
        ({"opne": 2}, r"route.opne: unknown key. Did you mean `open`"),
    ],
)
def test_a_wrong_route_of_a_recipe_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        from_mapping(DifficultyRouter, fields, path="route")


def test_the_choice_is_said_for_people():
    assert DifficultyRouter().formula() == "by loss"
    assert DifficultyRouter(difficulty="entropy", open=THIRDS).formula() == "by entropy, open linear 0→3"
