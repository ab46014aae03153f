"""A straight line between two shares of the run, flat outside."""

from __future__ import annotations

import pytest

from hf_distill.schedules import Linear
from hf_distill.schedules.linear import check_window, ramp


@pytest.mark.parametrize(
    ("progress", "expected"), [(0.0, 2.0), (0.2, 2.0), (0.4, 3.0), (0.6, 4.0), (0.8, 4.0), (1.0, 4.0)]
)
def test_the_line_is_flat_outside_its_window(progress, expected):
    line = Linear(start=2.0, stop=4.0, begin=0.2, end=0.6)
    assert line(progress) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("begin", "end"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1.0)])
def test_an_empty_window_would_divide_by_zero_and_is_refused(begin, end):
    with pytest.raises(ValueError, match="0 <= begin < end <= 1"):
        Linear(start=0.0, stop=1.0, begin=begin, end=end)


def test_a_window_is_measured_in_shares():
    assert [ramp(progress, 0.5, 1.0) for progress in (0.0, 0.5, 0.75, 1.0)] == [0.0, 0.0, 0.5, 1.0]
    assert check_window(0.0, 1.0) is None
