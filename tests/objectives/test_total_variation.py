from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from logit_cases import (
    RELATIVE,
    gradient_of,
    logit_lists,
    logit_pair,
    logits_of,
    passes_gradcheck,
    row_of,
    softmax,
    values_of,
)

from hf_distill.objectives import ForwardKL, ReverseKL, TotalVariation


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_values_equal_the_missing_overlap_with_40_digits(temperature: float) -> None:
    student, teacher = logit_pair()
    expected = []
    for z_s, z_t in zip(student, teacher, strict=True):
        overlap = sum(min(a, b) for a, b in zip(softmax(z_t, temperature), softmax(z_s), strict=True))
        expected.append(float(1 - overlap))
    values = values_of(TotalVariation(), student, teacher, temperature=temperature)
    assert values.tolist() == pytest.approx(expected, rel=RELATIVE)


def test_values_equal_the_best_event_to_tell_them_apart() -> None:
    # sup over events A of p(A) − q(A), over all 2^V events.
    student, teacher = logit_pair(classes=5, seed=1)
    events = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 5)
    expected = ((teacher.softmax(-1) - student.softmax(-1)) @ events.T).amax(-1)
    torch.testing.assert_close(values_of(TotalVariation(), student, teacher), expected, rtol=RELATIVE, atol=0.0)


def test_a_coin_has_its_closed_form() -> None:
    value = values_of(TotalVariation(), logits_of([0.5, 0.5]), logits_of([0.75, 0.25]))
    assert value.item() == pytest.approx(0.25, rel=1e-12)


@pytest.mark.parametrize("side", ["teacher", "both"])
def test_the_gradient_is_that_of_the_value(side: str) -> None:
    assert passes_gradcheck(TotalVariation(temperature_on=side), temperature=1.7)


def test_the_kink_at_agreement_has_gradient_zero() -> None:
    student, _ = logit_pair()
    assert gradient_of(TotalVariation(), student, student.clone()).abs().max() == 0.0


def test_the_arg_max_limit_is_the_documented_one() -> None:
    student, teacher = logit_pair()
    best = student.softmax(-1).gather(-1, teacher.argmax(-1, keepdim=True)).squeeze(-1)
    torch.testing.assert_close(values_of(TotalVariation(), student, teacher, temperature=0.0), 1 - best)


@given(logit_lists(4), logit_lists(4))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_it_is_a_bounded_metric_that_obeys_pinsker(student: list[float], teacher: list[float]) -> None:
    z_s, z_t = row_of(student), row_of(teacher)
    value = values_of(TotalVariation(), z_s, z_t).item()
    assert 0.0 <= value <= 1.0 + 1e-12
    assert value == values_of(TotalVariation(), z_t, z_s).item()
    for cls in (ForwardKL, ReverseKL):
        assert 2 * value**2 <= values_of(cls(), z_s, z_t).item() + 1e-12


def test_the_formula_is_short() -> None:
    assert TotalVariation().formula() == "TV(teacher/τ, student)"
