from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logit_cases import (
    RELATIVE,
    gradient_of,
    kl,
    logit_lists,
    logit_pair,
    logits_of,
    mixture,
    passes_gradcheck,
    row_of,
    softmax,
    values_of,
)

from hf_distill.objectives import ReverseKL, SkewKL, SkewReverseKL


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_values_equal_the_definition_with_40_digits(alpha: float, temperature: float) -> None:
    student, teacher = logit_pair()
    expected = []
    for z_s, z_t in zip(student, teacher, strict=True):
        p, q = softmax(z_t, temperature), softmax(z_s)
        expected.append(float(kl(q, mixture(p, q, 1 - alpha))))
    values = values_of(SkewReverseKL(alpha=alpha), student, teacher, temperature=temperature)
    assert values.tolist() == pytest.approx(expected, rel=RELATIVE)


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_values_equal_the_mean_log_ratio(alpha: float) -> None:
    # −Σ q log(α + (1 − α)·p/q), straight from the ratio of the logits.
    student, teacher = logit_pair(seed=1)
    log_ratio = teacher - student - (teacher.logsumexp(-1) - student.logsumexp(-1)).unsqueeze(-1)
    expected = -(student.softmax(-1) * (alpha + (1 - alpha) * log_ratio.exp()).log()).sum(-1)
    values = values_of(SkewReverseKL(alpha=alpha), student, teacher)
    torch.testing.assert_close(values, expected, rtol=RELATIVE, atol=0.0)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5])
def test_it_is_the_skew_forward_kl_with_the_roles_swapped(alpha: float) -> None:
    student, teacher = logit_pair()
    swapped = values_of(SkewKL(alpha=alpha), teacher, student)
    torch.testing.assert_close(values_of(SkewReverseKL(alpha=alpha), student, teacher), swapped)


def test_without_a_students_share_it_is_the_reverse_kl() -> None:
    student, teacher = logit_pair()
    reverse = values_of(ReverseKL(), student, teacher)
    assert torch.equal(values_of(SkewReverseKL(alpha=0.0), student, teacher), reverse)
    torch.testing.assert_close(values_of(SkewReverseKL(alpha=1e-12), student, teacher), reverse, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("side", ["teacher", "both"])
def test_the_gradient_follows_the_students_share_of_the_mixture(alpha: float, side: str) -> None:
    assert passes_gradcheck(SkewReverseKL(alpha=alpha, temperature_on=side), temperature=1.7)


def test_detaching_the_mixture_changes_the_gradient_as_documented_and_not_the_value() -> None:
    student, teacher = logit_pair()
    attached, detached = SkewReverseKL(), SkewReverseKL(detach_mixture=True)
    value = values_of(attached, student, teacher)
    assert torch.equal(values_of(detached, student, teacher), value)
    q = student.softmax(-1)
    log_ratio = (q / (0.9 * teacher.softmax(-1) + 0.1 * q)).log()
    expected = q * (log_ratio - value.unsqueeze(-1))
    torch.testing.assert_close(gradient_of(detached, student, teacher), expected)
    assert not torch.allclose(gradient_of(attached, student, teacher), expected, rtol=1e-2)


@pytest.mark.parametrize("detach_mixture", [False, True])
def test_a_student_that_agrees_is_left_alone(detach_mixture: bool) -> None:
    student, _ = logit_pair()
    objective = SkewReverseKL(detach_mixture=detach_mixture)
    assert gradient_of(objective, student, student).abs().max() < 1e-15


def test_without_a_students_share_the_arg_max_is_refused() -> None:
    with pytest.raises(ValueError, match="with alpha: 0, KL"):
        values_of(SkewReverseKL(alpha=0.0), torch.zeros(1, 3), torch.zeros(1, 3), temperature=1e-4)


def test_a_student_that_invents_everything_reaches_the_bound() -> None:
    student, teacher = logits_of([0.0, 1.0]), logits_of([1.0, 0.0])
    assert values_of(SkewReverseKL(alpha=0.1), student, teacher).item() == pytest.approx(-math.log(0.1), rel=1e-12)
    assert gradient_of(SkewReverseKL(alpha=0.1), student, teacher).isfinite().all()


@given(logit_lists(4, largest=200.0), logit_lists(4, largest=200.0), st.floats(0.01, 0.99))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_it_stays_between_zero_and_its_bound(student: list[float], teacher: list[float], alpha: float) -> None:
    value = values_of(SkewReverseKL(alpha=alpha), row_of(student), row_of(teacher)).item()
    assert -1e-12 <= value <= -math.log(alpha) + 1e-12


@pytest.mark.parametrize("alpha", [-0.1, 1.0])
def test_a_share_that_leaves_nothing_to_learn_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\)"):
        SkewReverseKL(alpha=alpha)


def test_the_formula_shows_a_detached_mixture() -> None:
    assert SkewReverseKL().formula() == "KL(student ‖ 0.9·teacher/τ + 0.1·student)"
    assert SkewReverseKL(detach_mixture=True).formula() == "KL(student ‖ 0.9·teacher/τ + 0.1·sg(student))"
