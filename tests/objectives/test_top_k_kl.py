from __future__ import annotations

import itertools
import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from logit_cases import (
    RELATIVE,
    Probabilities,
    gradient_of,
    kl,
    logit_lists,
    logit_pair,
    passes_gradcheck,
    row_of,
    softmax,
    values_of,
)

from hf_distill.objectives import ForwardKL, TopKKL


def outcomes(p: Probabilities, top: list[int]) -> Probabilities:
    """The chosen probabilities and the rest's, with 40 digits."""
    with mpmath.workdps(40):
        rest = mpmath.fsum(mass for index, mass in enumerate(p) if index not in top)
        return [*(p[index] for index in top), rest]


@pytest.mark.parametrize("k", [1, 3, 6])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_values_equal_the_definition_with_40_digits(k: int, temperature: float) -> None:
    student, teacher = logit_pair()
    expected = []
    for z_s, z_t in zip(student, teacher, strict=True):
        top = z_t.topk(k).indices.tolist()
        expected.append(float(kl(outcomes(softmax(z_t, temperature), top), outcomes(softmax(z_s), top))))
    values = values_of(TopKKL(k=k), student, teacher, temperature=temperature)
    assert values.tolist() == pytest.approx(expected, rel=RELATIVE)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_what_the_tail_hides_is_its_own_divergence(k: int) -> None:
    # Chain rule: dense KL = KL over the outcomes + p(rest) · KL within the rest.
    student, teacher = logit_pair(seed=1)
    order = teacher.argsort(-1, descending=True)[:, k:]
    inside = [logits.gather(-1, order) for logits in (student, teacher)]
    rest = teacher.softmax(-1).gather(-1, order).sum(-1)
    expected = values_of(ForwardKL(), student, teacher) - rest * values_of(ForwardKL(), *inside)
    torch.testing.assert_close(values_of(TopKKL(k=k), student, teacher), expected, rtol=RELATIVE, atol=0.0)


@pytest.mark.parametrize("k", [7, 100])
def test_all_outcomes_give_the_dense_divergence_and_gradient(k: int) -> None:
    student, teacher = logit_pair(classes=7)
    torch.testing.assert_close(values_of(TopKKL(k=k), student, teacher), values_of(ForwardKL(), student, teacher))
    torch.testing.assert_close(gradient_of(TopKKL(k=k), student, teacher), gradient_of(ForwardKL(), student, teacher))


@given(logit_lists(6), logit_lists(6))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_more_outcomes_never_see_less(student: list[float], teacher: list[float]) -> None:
    z_s, z_t = row_of(student), row_of(teacher)
    values = [values_of(TopKKL(k=k), z_s, z_t).item() for k in range(1, 7)]
    # Equal teacher logits may be cut differently for different k; the end is the dense value in any case.
    if len(set(teacher)) == len(teacher):
        assert all(low <= high + 1e-9 for low, high in itertools.pairwise(values))
    assert min(values) >= -1e-12 and max(values) <= values_of(ForwardKL(), z_s, z_t).item() + 1e-9


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("side", ["teacher", "both"])
def test_the_gradient_reaches_the_tail_and_is_that_of_the_value(k: int, side: str) -> None:
    assert passes_gradcheck(TopKKL(k=k, temperature_on=side), temperature=1.7)


def test_more_mass_on_the_top_than_the_teacher_is_not_rewarded() -> None:
    # Without the tail the sum would be negative: −log of a ratio above one.
    teacher, student = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([[5.0, 0.0, 0.0, 0.0]])
    p, q = teacher.softmax(-1)[0, 0], student.softmax(-1)[0, 0]
    assert p * (p / q).log() < 0
    assert values_of(TopKKL(k=1), student, teacher).item() > 0.5
    assert gradient_of(TopKKL(k=1), student, teacher)[0, 0] > 0


def test_a_tail_too_small_for_float32_is_not_rounded_away() -> None:
    teacher, student = torch.tensor([[0.0, -40.0, -41.0]]), torch.tensor([[0.0, 10.0, -41.0]])
    value, exact = (
        values_of(TopKKL(k=2), student.to(d), teacher.to(d)).item() for d in (torch.float32, torch.float64)
    )
    assert value == pytest.approx(exact, rel=1e-6)
    assert gradient_of(TopKKL(k=2), student, teacher).isfinite().all()


def test_a_vocabulary_restricted_to_fewer_than_k_outcomes_makes_no_nan() -> None:
    student, teacher = (torch.tensor([[a, b, -math.inf, -math.inf]]) for a, b in ((0.0, 1.0), (1.0, 0.0)))
    for k in (2, 3):
        torch.testing.assert_close(values_of(TopKKL(k=k), student, teacher), values_of(ForwardKL(), student, teacher))
        expected = gradient_of(ForwardKL(), student, teacher)
        torch.testing.assert_close(gradient_of(TopKKL(k=k), student, teacher), expected)


def test_no_outcomes_are_refused() -> None:
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        TopKKL(k=0)


def test_the_formula_names_k() -> None:
    assert TopKKL(k=8).formula() == "KL_top8(teacher/τ ‖ student)"
