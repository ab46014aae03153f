from __future__ import annotations

import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
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

from hf_distill.objectives import LogitCosine


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_values_equal_the_definition_with_40_digits(temperature: float) -> None:
    student, teacher = logit_pair()
    expected = []
    for z_s, z_t in zip(student, teacher, strict=True):
        with mpmath.workdps(40):
            p, q = softmax(z_t, temperature), softmax(z_s, temperature)
            cosine = mpmath.fdot(p, q) / mpmath.sqrt(mpmath.fdot(p, p) * mpmath.fdot(q, q))
            expected.append(float(mpmath.mpf(temperature) ** 2 * (1 - cosine)))
    values = values_of(LogitCosine(), student, teacher, temperature=temperature)
    assert values.tolist() == pytest.approx(expected, rel=RELATIVE)


def test_values_equal_the_cosine_in_log_space() -> None:
    student, teacher = logit_pair(seed=1)
    norms = (2 * student).logsumexp(-1) + (2 * teacher).logsumexp(-1)
    expected = 1 - ((student + teacher).logsumexp(-1) - norms / 2).exp()
    torch.testing.assert_close(values_of(LogitCosine(), student, teacher), expected, rtol=RELATIVE, atol=0.0)


def test_values_equal_torchs_cosine_similarity() -> None:
    student, teacher = logit_pair(seed=2)
    expected = 1 - F.cosine_similarity(student.softmax(-1), teacher.softmax(-1), dim=-1)
    torch.testing.assert_close(values_of(LogitCosine(), student, teacher), expected, rtol=RELATIVE, atol=0.0)


def test_a_coin_has_its_closed_form() -> None:
    value = values_of(LogitCosine(), logits_of([0.5, 0.5]), logits_of([0.75, 0.25]))
    assert value.item() == pytest.approx(1 - 2 / math.sqrt(5), rel=1e-12)


@pytest.mark.parametrize(("side", "temperature"), [("teacher", 1.0), ("both", 4.0)])
def test_the_gradient_is_that_of_the_value(side: str, temperature: float) -> None:
    assert passes_gradcheck(LogitCosine(temperature_on=side), temperature=temperature)


def test_float32_does_not_cancel_near_agreement() -> None:
    student, _ = logit_pair(classes=50)
    teacher = student + 1e-4 * logit_pair(classes=50, seed=9)[0]
    exact = values_of(LogitCosine(), student, teacher)
    assert exact.max() < 1e-7  # below float32's resolution of a cosine
    torch.testing.assert_close(
        values_of(LogitCosine(), student.float(), teacher.float()).double(), exact, rtol=0.02, atol=0.0
    )


def test_agreement_has_no_gradient() -> None:
    student, _ = logit_pair()
    assert gradient_of(LogitCosine(), student, student.clone()).abs().max() < 1e-16


def test_the_arg_max_limit_is_the_documented_one() -> None:
    student, teacher = logit_pair()
    q = student.softmax(-1)
    best = q.gather(-1, teacher.argmax(-1, keepdim=True)).squeeze(-1)
    limit = values_of(LogitCosine(temperature_on="teacher"), student, teacher, temperature=0.0)
    torch.testing.assert_close(limit, 1 - best / q.norm(dim=-1))


@given(logit_lists(4, largest=200.0), logit_lists(4, largest=200.0))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_it_is_symmetric_and_within_its_bounds(student: list[float], teacher: list[float]) -> None:
    z_s, z_t = row_of(student), row_of(teacher)
    value = values_of(LogitCosine(), z_s, z_t).item()
    assert 0.0 <= value <= 1.0 + 1e-12
    assert value == pytest.approx(values_of(LogitCosine(), z_t, z_s).item(), rel=1e-12, abs=1e-15)


def test_the_default_divides_both_logits_as_the_paper_does() -> None:
    assert LogitCosine().formula() == "τ²·(1−cos(teacher/τ, student/τ))"
