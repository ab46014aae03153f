"""Lines through given points, or steps at them."""

from __future__ import annotations

import pytest

from hf_distill.schedules import Piecewise

POINTS = [[0.2, 1.0], [0.4, 3.0], [0.8, 2.0]]


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 1.0), (0.2, 1.0), (0.3, 2.0), (0.4, 3.0), (0.6, 2.5), (0.9, 2.0)]
)
def test_lines_join_the_points_and_are_flat_outside(progress, expected):
    assert Piecewise(points=POINTS)(progress) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 1.0), (0.39, 1.0), (0.4, 3.0), (0.79, 3.0), (0.8, 2.0), (1.0, 2.0)]
)
def test_steps_change_exactly_at_their_points(progress, expected):
    assert Piecewise(points=POINTS, between="previous")(progress) == expected


def test_one_point_is_a_constant():
    assert Piecewise(points=[[0.5, 2.0]])(0.0) == Piecewise(points=[[0.5, 2.0]])(1.0) == 2.0


@pytest.mark.parametrize("points", [[], [[0.5]], [[0.1, 1.0, 2.0]]])
def test_points_that_are_no_pairs_are_refused(points):
    with pytest.raises(ValueError, match=r"needs points \[\[progress, value\], \.\.\.\]"):
        Piecewise(points=points)


@pytest.mark.parametrize("positions", [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, 1.5)])
def test_points_that_do_not_rise_within_the_run_are_refused(positions):
    with pytest.raises(ValueError, match=r"must rise strictly within \[0, 1\]"):
        Piecewise(points=[[position, 1.0] for position in positions])


def test_reports_can_tell_steps_from_lines():
    lines, steps = Piecewise(points=POINTS), Piecewise(points=POINTS, between="previous")
    assert lines.formula() == "piecewise 0.2:1 0.4:3 0.8:2"
    assert steps.formula() == "steps 0.2:1 0.4:3 0.8:2"
