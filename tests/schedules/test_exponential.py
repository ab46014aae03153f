"""A constant ratio per step between two positive values."""

from __future__ import annotations

import pytest

from hf_distill.schedules import Exponential


def test_equal_steps_have_equal_ratios():
    curve = Exponential(start=8.0, stop=1.0)
    values = [curve(share / 3) for share in range(4)]
    assert values == pytest.approx([8.0, 4.0, 2.0, 1.0], rel=1e-12)


@pytest.mark.parametrize(("start", "stop"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0)])
def test_zero_cannot_be_reached_by_ratios(start, stop):
    with pytest.raises(ValueError, match=r"start > 0 and stop > 0.*use `linear` to reach zero"):
        Exponential(start=start, stop=stop)


def test_a_huge_ratio_does_not_overflow():
    curve = Exponential(start=1e-300, stop=1e300)
    assert curve(0.5) == pytest.approx(1.0, rel=1e-9)
    assert curve(1.0) == 1e300


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="0 <= begin < end <= 1"):
        Exponential(start=1.0, stop=2.0, begin=0.5, end=0.5)
