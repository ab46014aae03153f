"""Half a cosine between two values."""

from __future__ import annotations

import math

import pytest

from hf_distill.schedules import Cosine


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_the_curve_is_half_a_cosine(progress):
    curve = Cosine(start=3.0, stop=1.0)
    assert curve(progress) == pytest.approx(2.0 + math.cos(math.pi * progress), rel=1e-12)


def test_the_middle_of_the_window_is_half_way():
    assert Cosine(start=0.0, stop=1.0, begin=0.2, end=0.4)(0.3) == pytest.approx(0.5, rel=1e-12)


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="0 <= begin < end <= 1"):
        Cosine(start=0.0, stop=1.0, begin=0.5, end=0.5)
