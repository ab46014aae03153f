from __future__ import annotations

import itertools
import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from logit_cases import RELATIVE, gradient_of, logit_lists, logit_pair, passes_gradcheck, row_of, values_of
from torch import Tensor

from hf_distill.objectives import SoftRankCorrelation
from hf_distill.objectives.soft_rank_correlation import soft_ranks


def reference(student: Tensor, teacher: Tensor, temperature: float, classes: int) -> float:
    """The definition for one row, pair by pair, with 40 digits."""
    order = sorted(range(len(teacher)), key=lambda index: -float(teacher[index]))[:classes]

    def ranks(logits: Tensor) -> list[mpmath.mpf]:
        z = [mpmath.mpf(float(logits[index])) / mpmath.mpf(temperature) for index in order]
        return [mpmath.fsum(1 / (1 + mpmath.exp(own - other)) for other in z) for own in z]

    with mpmath.workdps(40):
        squares = mpmath.fsum((a - b) ** 2 for a, b in zip(ranks(teacher), ranks(student), strict=True))
        return float(6 * squares / (classes * (classes**2 - 1)))


@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 4, 7])
def test_values_equal_the_definition_with_40_digits(temperature: float, classes: int) -> None:
    student, teacher = logit_pair()
    expected = [reference(z_s, z_t, temperature, classes) for z_s, z_t in zip(student, teacher, strict=True)]
    values = values_of(SoftRankCorrelation(classes=classes), student, teacher, temperature=temperature)
    assert values.tolist() == pytest.approx(expected, rel=RELATIVE)


def test_soft_ranks_equal_duels_between_pairs_drawn_by_softmax() -> None:
    scores, _ = logit_pair(1, 5)
    expected = [0.5] * 5
    for i, j in itertools.permutations(range(5), 2):
        expected[i] += scores[0, [i, j]].softmax(-1)[1].item()
    assert soft_ranks(scores)[0].tolist() == pytest.approx(expected, rel=RELATIVE)


def test_a_low_temperature_gives_spearmans_correlation() -> None:
    from scipy.stats import spearmanr

    # Whole-number logits: no two closer than 1, so that the pairs at this temperature are decided.
    student, teacher = (logits.argsort(-1).double() for logits in logit_pair(6, 9, seed=5))
    expected = [1 - spearmanr(z_s, z_t).statistic for z_s, z_t in zip(student.numpy(), teacher.numpy(), strict=True)]
    values = values_of(SoftRankCorrelation(), student, teacher, temperature=1e-3)
    assert values.tolist() == pytest.approx(expected, rel=RELATIVE)


def test_the_opposite_order_is_two_and_the_same_order_zero() -> None:
    ladder = torch.arange(6.0, dtype=torch.float64).unsqueeze(0)
    assert values_of(SoftRankCorrelation(), ladder, -ladder, temperature=0.01).item() == pytest.approx(2.0, rel=1e-12)
    assert values_of(SoftRankCorrelation(), 3 * ladder, ladder, temperature=0.01).item() < 1e-12


@pytest.mark.parametrize("temperature", [0.5, 4.0])
def test_the_rank_term_has_a_gradient_and_it_is_that_of_the_value(temperature: float) -> None:
    student, teacher = logit_pair()
    assert (gradient_of(SoftRankCorrelation(), student, teacher, temperature=temperature).abs() > 1e-9).all()
    assert passes_gradcheck(SoftRankCorrelation(), temperature=temperature)


def test_a_student_with_equal_logits_learns_the_order() -> None:
    teacher = torch.tensor([[3.0, 2.0, 1.0, 0.0]])
    student = torch.zeros(1, 4)
    assert soft_ranks(student).tolist() == [[2.0, 2.0, 2.0, 2.0]]
    descent = -gradient_of(SoftRankCorrelation(), student, teacher)
    assert descent[0].argsort(descending=True).tolist() == [0, 1, 2, 3]


def test_steps_down_the_gradient_sort_the_student_as_the_teacher() -> None:
    student, teacher = logit_pair(2, 6, seed=8)
    student = 0.1 * student
    for _ in range(300):
        student = student - 2.0 * gradient_of(SoftRankCorrelation(), student, teacher)
    assert torch.equal(student.argsort(-1), teacher.argsort(-1))


def test_only_the_teachers_best_classes_are_ranked() -> None:
    student, teacher = logit_pair(1, 6)
    gradient = gradient_of(SoftRankCorrelation(classes=3), student, teacher)
    best = set(teacher[0].topk(3).indices.tolist())
    assert {index for index, slope in enumerate(gradient[0].tolist()) if slope != 0.0} == best


def test_classes_that_are_ruled_out_share_the_last_places_without_nan() -> None:
    ruled_out = torch.tensor([[2.0, -math.inf, 1.0, -math.inf]])
    assert soft_ranks(1e3 * ruled_out).tolist() == [[0.5, 3.0, 1.5, 3.0]]
    student = torch.tensor([[1.0, -math.inf, 0.5, 0.0]])
    assert values_of(SoftRankCorrelation(), student, ruled_out).isfinite().all()
    gradient = gradient_of(SoftRankCorrelation(), student, ruled_out)
    assert gradient.isfinite().all() and gradient[0, 1] == 0.0


@given(logit_lists(5), logit_lists(5))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_it_is_bounded_symmetric_and_ignores_a_shift(student: list[float], teacher: list[float]) -> None:
    z_s, z_t = row_of(student), row_of(teacher)
    value = values_of(SoftRankCorrelation(), z_s, z_t).item()
    assert 0.0 <= value <= 2.0 + 1e-9
    assert values_of(SoftRankCorrelation(), z_t, z_s).item() == pytest.approx(value, rel=1e-9, abs=1e-12)
    assert values_of(SoftRankCorrelation(), z_s + 3, z_t - 4).item() == pytest.approx(value, rel=1e-9, abs=1e-12)


def test_a_temperature_without_gradient_is_refused_with_a_way_out() -> None:
    with pytest.raises(ValueError, match=r"no gradient at temperature 0\.0001 .* temperature ≥ 0\.001"):
        values_of(SoftRankCorrelation(), *logit_pair(), temperature=1e-4)


def test_a_single_class_has_no_order() -> None:
    with pytest.raises(ValueError, match="classes must be at least 2"):
        SoftRankCorrelation(classes=1)


def test_the_formula_names_the_number_of_classes() -> None:
    assert SoftRankCorrelation(classes=8).formula() == "(1−ρ(teacher/τ, student/τ; top 8))"
