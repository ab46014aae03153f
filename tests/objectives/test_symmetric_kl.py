from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from logit_cases import (
    RELATIVE,
    gradient_of,
    kl,
    logit_lists,
    logit_pair,
    logits_of,
    passes_gradcheck,
    row_of,
    softmax,
    values_of,
)

from hf_distill.objectives import ForwardKL, ReverseKL, SymmetricKL


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_values_equal_both_divergences_with_40_digits(temperature: float) -> None:
    student, teacher = logit_pair()
    expected = []
    for z_s, z_t in zip(student, teacher, strict=True):
        p, q = softmax(z_t, temperature), softmax(z_s)
        expected.append(float(kl(p, q) + kl(q, p)))
    values = values_of(SymmetricKL(), student, teacher, temperature=temperature)
    assert values.tolist() == pytest.approx(expected, rel=RELATIVE)


def test_values_equal_the_moved_probability_times_the_logits() -> None:
    # The log-partitions drop out of Σ (p − q)(log p − log q), since p − q sums to 0.
    student, teacher = logit_pair(seed=1)
    expected = ((teacher.softmax(-1) - student.softmax(-1)) * (teacher - student)).sum(-1)
    torch.testing.assert_close(values_of(SymmetricKL(), student, teacher), expected, rtol=RELATIVE, atol=0.0)


def test_a_coin_has_its_closed_form() -> None:
    value = values_of(SymmetricKL(), logits_of([0.5, 0.5]), logits_of([0.75, 0.25]))
    assert value.item() == pytest.approx(0.25 * math.log(3), rel=1e-12)


@pytest.mark.parametrize(("side", "temperature"), [("teacher", 1.0), ("teacher", 2.0), ("both", 2.0)])
def test_it_is_the_sum_of_the_two_directions_not_the_mean(side: str, temperature: float) -> None:
    student, teacher = logit_pair()
    forward, reverse, symmetric = (
        values_of(cls(temperature_on=side), student, teacher, temperature=temperature)
        for cls in (ForwardKL, ReverseKL, SymmetricKL)
    )
    torch.testing.assert_close(symmetric, forward + reverse)


@pytest.mark.parametrize("side", ["teacher", "both"])
def test_the_gradient_is_that_of_the_value(side: str) -> None:
    assert passes_gradcheck(SymmetricKL(temperature_on=side), temperature=2.0)


def test_a_student_that_agrees_in_some_classes_gets_the_whole_gradient() -> None:
    student, teacher = torch.tensor([[1.0, 1.0, 0.5, 0.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.5]])
    expected = gradient_of(ForwardKL(), student, teacher) + gradient_of(ReverseKL(), student, teacher)
    torch.testing.assert_close(gradient_of(SymmetricKL(), student, teacher), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("swap", [False, True])
def test_one_sided_exclusion_is_infinite(swap: bool) -> None:
    pair = torch.zeros(1, 2), torch.tensor([[0.0, -math.inf]])
    assert values_of(SymmetricKL(), *(pair[::-1] if swap else pair)).item() == math.inf


@given(logit_lists(4), logit_lists(4))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_it_is_symmetric_and_never_negative_to_the_last_bit(student: list[float], teacher: list[float]) -> None:
    value = values_of(SymmetricKL(), row_of(student), row_of(teacher))
    assert value.item() >= 0.0
    torch.testing.assert_close(values_of(SymmetricKL(), row_of(teacher), row_of(student)), value, atol=0.0, rtol=1e-12)
