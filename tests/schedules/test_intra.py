"""The adaptive weight of intra-distillation: the fixed points of its ramp."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.schedules import IntraRamp

PUBLISHED = [(5.0, 5.0, 10.0), (5.0, 10.0, 16.0), (5.0, 3.75, 6.0)]


@pytest.mark.parametrize(("alpha", "p", "q"), PUBLISHED)
def test_the_ramp_meets_its_fixed_points(alpha, p, q):
    ramp = IntraRamp(alpha=alpha, p=p, q=q)
    assert ramp(0.0) == 0.0
    assert ramp(1.0 / q) == pytest.approx(1.0, rel=1e-12)
    assert ramp(1.0 / p) == alpha
    assert ramp(math.nextafter(1.0 / p, 0.0)) == pytest.approx(alpha, rel=1e-12)
    assert ramp(1.0) == alpha


@pytest.mark.parametrize(
    ("p", "q", "updates", "step", "expected"),
    [(5.0, 10.0, 50_000, 1_000, 0.0238), (5.0, 10.0, 50_000, 5_000, 1.0), (10.0, 16.0, 80_000, 5_000, 1.0)],
)
def test_the_worked_examples_of_the_released_code_come_out(p, q, updates, step, expected):
    assert IntraRamp(alpha=5.0, p=p, q=q)(step / updates) == pytest.approx(expected, abs=5e-4)


def test_the_ramp_is_a_power_law():
    ramp = IntraRamp(alpha=5.0, p=5.0, q=10.0)
    assert math.log(5.0) / math.log(2.0) == pytest.approx(2.3219, abs=1e-4)
    assert ramp(0.1) / ramp(0.05) == pytest.approx(2.0 ** (math.log(5.0) / math.log(2.0)), rel=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@settings(derandomize=True, deadline=None, max_examples=20)
@given(progress=st.floats(0.0, 1.0))
def test_a_weight_of_at_most_one_is_not_ramped(alpha, progress):
    assert IntraRamp(alpha=alpha, p=6.67, q=10.0)(progress) == alpha


@settings(derandomize=True, deadline=None, max_examples=50)
@given(alpha=st.floats(1.01, 20.0), p=st.floats(1.0, 10.0), wider=st.floats(1.1, 3.0), steps=st.integers(2, 30))
def test_the_ramp_neither_falls_nor_overshoots(alpha, p, wider, steps):
    ramp = IntraRamp(alpha=alpha, p=p, q=p * wider)
    values = [ramp(index / steps) for index in range(steps + 1)]
    assert values == sorted(values)
    assert max(values) <= alpha * (1.0 + 1e-12)


@pytest.mark.parametrize(("alpha", "p", "q"), [(-1.0, 2.0, 5.0), (5.0, 5.0, 5.0), (5.0, 10.0, 5.0), (5.0, 0.5, 5.0)])
def test_an_impossible_ramp_is_refused(alpha, p, q):
    with pytest.raises(ValueError, match=r"intra_ramp needs alpha ≥ 0 and 1 ≤ p < q, got alpha="):
        IntraRamp(alpha=alpha, p=p, q=q)


def test_the_formula_shows_the_ramp():
    assert IntraRamp(alpha=5.0, p=5.0, q=10.0).formula() == "0→5 (p=5, q=10)"
    assert IntraRamp(alpha=0.5, p=5.0, q=10.0).formula() == "0.5"
