from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from logit_cases import (
    RELATIVE,
    gradient_of,
    kl,
    log_partition,
    logit_lists,
    logit_pair,
    logits_of,
    passes_gradcheck,
    row_of,
    softmax,
    values_of,
)

from hf_distill.objectives import ForwardKL, ReverseKL


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_values_equal_probabilities_summed_with_40_digits(temperature: float) -> None:
    student, teacher = logit_pair()
    rows = zip(student, teacher, strict=True)
    expected = [float(kl(softmax(z_s), softmax(z_t, temperature))) for z_s, z_t in rows]
    assert values_of(ReverseKL(), student, teacher, temperature=temperature).tolist() == pytest.approx(
        expected, rel=RELATIVE
    )


def test_values_equal_the_bregman_divergence_of_the_log_partition() -> None:
    student, teacher = logit_pair(seed=1)
    linear = (student.softmax(-1) * (teacher - student)).sum(-1)
    expected = log_partition(teacher) - log_partition(student) - linear
    torch.testing.assert_close(values_of(ReverseKL(), student, teacher), expected, rtol=RELATIVE, atol=0.0)


def test_a_coin_has_its_closed_form() -> None:
    value = values_of(ReverseKL(), logits_of([0.5, 0.5]), logits_of([0.75, 0.25]))
    assert value.item() == pytest.approx(0.5 * math.log(4 / 3), rel=1e-12)


def test_it_is_the_forward_divergence_with_the_roles_swapped() -> None:
    student, teacher = logit_pair()
    torch.testing.assert_close(values_of(ReverseKL(), student, teacher), values_of(ForwardKL(), teacher, student))


@pytest.mark.parametrize("temperature", [0.5, 2.0])
@pytest.mark.parametrize("side", ["teacher", "both"])
def test_the_gradient_is_that_of_the_value(temperature: float, side: str) -> None:
    assert passes_gradcheck(ReverseKL(temperature_on=side), temperature=temperature)


def test_the_gradient_is_the_students_probability_times_the_excess() -> None:
    student, teacher = logit_pair(classes=5)
    log_q = student.log_softmax(-1)
    excess = log_q - teacher.log_softmax(-1)
    expected = log_q.exp() * (excess - values_of(ReverseKL(), student, teacher).unsqueeze(-1))
    torch.testing.assert_close(gradient_of(ReverseKL(), student, teacher), expected)


def test_a_student_outcome_too_small_for_float32_makes_no_nan() -> None:
    student, teacher = torch.tensor([[0.0, -150.0]]), torch.tensor([[0.0, -1.0]])
    assert values_of(ReverseKL(), student, teacher).item() == pytest.approx(math.log(1 + math.exp(-1)), rel=1e-6)
    assert gradient_of(ReverseKL(), student, teacher).abs().max() < 1e-30


def test_mass_that_the_teacher_rules_out_is_infinitely_far() -> None:
    assert values_of(ReverseKL(), torch.zeros(1, 2), torch.tensor([[0.0, -math.inf]])).item() == math.inf


@given(logit_lists(4), logit_lists(4))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_it_is_never_negative_and_ignores_a_shift(student: list[float], teacher: list[float]) -> None:
    value = values_of(ReverseKL(), row_of(student), row_of(teacher))
    assert value.item() >= -1e-12
    torch.testing.assert_close(
        values_of(ReverseKL(), row_of(student) + 5, row_of(teacher) - 7), value, atol=1e-12, rtol=1e-9
    )


def test_a_recipe_reads_the_direction() -> None:
    assert ReverseKL().formula() == "KL(student ‖ teacher/τ)"
