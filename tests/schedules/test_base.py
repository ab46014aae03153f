"""A recipe gives a schedule as a number or a mapping; anything else is an error with its place."""

from __future__ import annotations

import pytest

from hf_distill.schedules import Constant, Linear, Schedule, build_schedule


@pytest.mark.parametrize("number", [2, 2.0])
def test_a_number_is_constant(number):
    assert build_schedule(number, path="x") == Constant(level=2.0)


def test_a_mapping_is_built_by_name():
    spec = {"name": "linear", "start": 1, "stop": 0}
    assert build_schedule(spec, path="x") == Linear(start=1.0, stop=0.0)


def test_a_schedule_is_taken_as_it_is():
    schedule = Linear(start=1.0, stop=0.0)
    assert build_schedule(schedule, path="x") is schedule


@pytest.mark.parametrize("wrong", [None, "1", True, [1, 2]])
def test_what_is_no_number_and_no_mapping_is_refused_with_its_place(wrong):
    with pytest.raises(ValueError, match=r"curriculum\.label_mix: expected a number or a mapping"):
        build_schedule(wrong, path="curriculum.label_mix")


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(number):
    with pytest.raises(ValueError, match=r"x\.level: expected a finite number"):
        build_schedule(number, path="x")


def test_an_unknown_name_gets_a_hint():
    with pytest.raises(ValueError, match=r"Unknown schedule 'linaer'. Did you mean 'linear'"):
        build_schedule({"name": "linaer"}, path="x")


def test_progress_is_clipped_before_value_sees_it():
    class Itself(Schedule):
        def value(self, progress: float) -> float:
            return progress

        def formula(self) -> str:
            return "progress"

    assert [Itself()(progress) for progress in (-1.0, 0.25, 7.0)] == [0.0, 0.25, 1.0]
