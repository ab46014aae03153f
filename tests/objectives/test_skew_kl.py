from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logit_cases import (
    RELATIVE,
    entropy,
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

from hf_distill.objectives import ForwardKL, SkewKL


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_values_equal_the_definition_with_40_digits(alpha: float, temperature: float) -> None:
    student, teacher = logit_pair()
    expected = []
    for z_s, z_t in zip(student, teacher, strict=True):
        p, q = softmax(z_t, temperature), softmax(z_s)
        expected.append(float(kl(p, mixture(p, q, alpha))))
    values = values_of(SkewKL(alpha=alpha), student, teacher, temperature=temperature)
    assert values.tolist() == pytest.approx(expected, rel=RELATIVE)


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_values_equal_the_mean_log_ratio(alpha: float) -> None:
    # −Σ p log(α + (1 − α)·q/p), straight from the ratio of the logits.
    student, teacher = logit_pair(seed=1)
    log_ratio = student - teacher - (student.logsumexp(-1) - teacher.logsumexp(-1)).unsqueeze(-1)
    expected = -(teacher.softmax(-1) * (alpha + (1 - alpha) * log_ratio.exp()).log()).sum(-1)
    torch.testing.assert_close(values_of(SkewKL(alpha=alpha), student, teacher), expected, rtol=RELATIVE, atol=0.0)


def test_distillms_cross_entropy_is_larger_by_the_teachers_entropy() -> None:
    student, teacher = logit_pair()
    p, q = teacher.softmax(-1), student.softmax(-1)
    cross_entropy = -(p * (0.1 * p + 0.9 * q).log()).sum(-1)
    entropies = torch.tensor([entropy(row.tolist()) for row in p], dtype=torch.float64)
    torch.testing.assert_close(values_of(SkewKL(), student, teacher), cross_entropy - entropies)


def test_without_a_teachers_share_it_is_the_forward_kl() -> None:
    student, teacher = logit_pair()
    forward = values_of(ForwardKL(), student, teacher)
    assert torch.equal(values_of(SkewKL(alpha=0.0), student, teacher), forward)
    torch.testing.assert_close(values_of(SkewKL(alpha=1e-12), student, teacher), forward, rtol=1e-6, atol=0.0)


def test_a_larger_share_leaves_less_to_learn() -> None:
    student, teacher = logit_pair()
    values = torch.stack([values_of(SkewKL(alpha=alpha), student, teacher) for alpha in (0.0, 0.1, 0.3, 0.6, 0.99)])
    assert (values.diff(dim=0) < 0).all()


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("side", ["teacher", "both"])
def test_the_gradient_follows_the_students_share_of_the_mixture(alpha: float, side: str) -> None:
    assert passes_gradcheck(SkewKL(alpha=alpha, temperature_on=side), temperature=1.7)


def test_the_arg_max_limit_is_the_documented_one() -> None:
    student, teacher = logit_pair()
    best = student.softmax(-1).gather(-1, teacher.argmax(-1, keepdim=True)).squeeze(-1)
    limit = values_of(SkewKL(), student, teacher, temperature=1e-4)
    torch.testing.assert_close(limit, -(0.1 + 0.9 * best).log())


def test_a_student_that_misses_everything_reaches_the_bound() -> None:
    student, teacher = logits_of([0.0, 1.0]), logits_of([1.0, 0.0])
    assert values_of(SkewKL(alpha=0.1), student, teacher).item() == pytest.approx(-math.log(0.1), rel=1e-12)
    assert gradient_of(SkewKL(alpha=0.1), student, teacher).isfinite().all()


@given(logit_lists(4, largest=200.0), logit_lists(4, largest=200.0), st.floats(0.01, 0.99))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_it_stays_between_zero_and_its_bound(student: list[float], teacher: list[float], alpha: float) -> None:
    value = values_of(SkewKL(alpha=alpha), row_of(student), row_of(teacher)).item()
    assert -1e-12 <= value <= -math.log(alpha) + 1e-12


@pytest.mark.parametrize("alpha", [-0.1, 1.0])
def test_a_share_that_leaves_nothing_to_learn_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match=r"alpha must lie in \[0, 1\)"):
        SkewKL(alpha=alpha)


def test_the_formula_names_both_shares() -> None:
    assert SkewKL(alpha=0.25).formula() == "KL(teacher/τ ‖ 0.25·teacher/τ + 0.75·student)"
