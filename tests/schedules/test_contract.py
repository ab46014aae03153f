"""What holds for every registered schedule; a new one is covered once its arguments stand in `BUILD`."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.schedules import SCHEDULES, Schedule, build_schedule

# Arguments of a schedule, and its documented values at progress 0 and 1.
BUILD = {
    "constant": [({"level": 0.3}, 0.3, 0.3)],
    "linear": [
        ({"start": 0.7, "stop": 0.1}, 0.7, 0.1),
        ({"start": -2.0, "stop": 3.0, "begin": 0.25, "end": 0.5}, -2.0, 3.0),
    ],
    "cosine": [
        ({"start": 0.7, "stop": 0.1}, 0.7, 0.1),
        ({"start": 1.0, "stop": 5.0, "begin": 0.25, "end": 0.5}, 1.0, 5.0),
    ],
    "exponential": [
        ({"start": 10.0, "stop": 0.1}, 10.0, 0.1),
        ({"start": 1e-3, "stop": 1e3, "begin": 0.25, "end": 0.5}, 1e-3, 1e3),
    ],
    "annealing_temperature": [
        ({"steps": 7}, 7.0, 1.0),
        ({"steps": 3, "epochs": 10}, 3.0, 1.0),
        ({"steps": 4, "begin": 0.25, "end": 0.5}, 4.0, 1.0),
    ],
    "continuation_weight": [({}, 0.0, 1.0), ({"slope": 4 / 3, "until": 0.75}, 0.0, 1.0)],
    "geometric": [
        ({"start": 100.0, "ratio": 0.7, "epochs": 50}, 100.0, 100.0 * 0.7**49),
        ({"start": 1.0, "ratio": 2.0, "epochs": 1}, 1.0, 1.0),
    ],
    "intra_ramp": [({"alpha": 5.0}, 0.0, 5.0), ({"alpha": 0.5, "p": 1.0, "q": 2.0}, 0.5, 0.5)],
    "piecewise": [
        ({"points": [[0.0, 1.0], [0.5, 4.0], [1.0, 2.0]]}, 1.0, 2.0),
        ({"points": [[0.2, 1.0], [0.5, 4.0]]}, 1.0, 4.0),
        ({"points": [[0.0, 0.0], [0.5, 1.0]], "between": "previous"}, 0.0, 1.0),
    ],
}
CASES = [(name, *case) for name in SCHEDULES for case in BUILD.get(name, [])]
PROGRESS = st.floats(0.0, 1.0)


def built(name: str, fields: dict) -> Schedule:
    return build_schedule({"name": name, **fields}, path="schedule")


def test_no_registered_schedule_is_left_out():
    assert set(BUILD) == set(SCHEDULES), "give the new schedule its arguments and end points in BUILD"


@pytest.mark.parametrize(("name", "fields", "first", "last"), CASES)
def test_the_end_points_are_the_documented_ones(name, fields, first, last):
    schedule = built(name, fields)
    assert schedule(0.0) == pytest.approx(first, rel=1e-12)
    assert schedule(1.0) == pytest.approx(last, rel=1e-12)


@pytest.mark.parametrize(("name", "fields", "first", "last"), CASES)
@settings(derandomize=True, deadline=None, max_examples=25)
@given(progress=PROGRESS)
def test_values_are_finite_and_pure(name, fields, first, last, progress):
    schedule = built(name, fields)
    value = schedule(progress)
    schedule(1.0 - progress)
    assert math.isfinite(value)
    assert value == schedule(progress) == built(name, fields)(progress)


@pytest.mark.parametrize(("name", "fields", "first", "last"), CASES)
@pytest.mark.parametrize(("outside", "inside"), [(-0.5, 0.0), (1.5, 1.0)])
def test_progress_outside_the_run_is_clipped(name, fields, first, last, outside, inside):
    schedule = built(name, fields)
    assert schedule(outside) == schedule(inside)


@pytest.mark.parametrize(("name", "fields", "first", "last"), CASES)
def test_a_schedule_cannot_be_changed_while_it_runs(name, fields, first, last):
    schedule = built(name, fields)
    field = dataclasses.fields(schedule)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError, match=field):
        setattr(schedule, field, 1.0)


@pytest.mark.parametrize(("name", "fields", "first", "last"), CASES)
def test_reports_get_a_short_text(name, fields, first, last):
    text = built(name, fields).formula()
    assert 0 < len(text) < 60
    assert "\n" not in text


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_every_field_explains_itself(name):
    assert all(field.metadata.get("help") for field in dataclasses.fields(SCHEDULES.get(name)))


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_an_unknown_key_is_an_error(name):
    with pytest.raises(ValueError, match=r"curriculum\.temperature\.speeed: unknown key"):
        build_schedule({"name": name, **BUILD[name][0][0], "speeed": 1}, path="curriculum.temperature")
