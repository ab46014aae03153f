from __future__ import annotations

import math

import mpmath
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from logit_cases import (
    RELATIVE,
    Probabilities,
    gradient_of,
    kl,
    labels_for,
    logit_lists,
    logit_pair,
    passes_gradcheck,
    row_of,
    softmax,
    values_of,
)
from torch import Tensor

from hf_distill.objectives import DecoupledKD, ForwardKL
from hf_distill.objectives.decoupled_kd import Decoupled, decouple
from hf_distill.objectives.distributions import TemperedLogits


def parts_of(teacher: Tensor, student: Tensor, labels: Tensor) -> Decoupled:
    """The parts at temperature 1."""
    return decouple(TemperedLogits(teacher), TemperedLogits(student), labels)


def split(p: Probabilities, label: int) -> tuple[Probabilities, Probabilities]:
    """(label, not label) and the renormalised others, with 40 digits."""
    with mpmath.workdps(40):
        others = [mass for index, mass in enumerate(p) if index != label]
        rest = mpmath.fsum(others)
        return [p[label], rest], [mass / rest for mass in others]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("coupled", [False, True])
def test_values_equal_the_definition_with_40_digits(temperature: float, coupled: bool) -> None:
    student, teacher = logit_pair()
    labels, expected = labels_for(student), []
    for z_s, z_t, label in zip(student, teacher, labels.tolist(), strict=True):
        (p, p_others), (q, q_others) = (split(softmax(z, temperature), label) for z in (z_t, z_s))
        others = kl(p_others, q_others) * (p[1] if coupled else 1)
        expected.append(float(temperature**2 * (0.5 * kl(p, q) + 8 * others)))
    objective = DecoupledKD(alpha=0.5, beta=8.0, coupled=coupled)
    values = values_of(objective, student, teacher, labels, temperature=temperature)
    assert values.tolist() == pytest.approx(expected, rel=RELATIVE)


def test_the_others_equal_a_divergence_with_the_label_cut_out() -> None:
    student, teacher = logit_pair(seed=1)
    labels = labels_for(student)
    kept = F.one_hot(labels, 7) == 0
    cut = [logits[kept].view(4, 6).log_softmax(-1) for logits in (student, teacher)]
    expected = F.kl_div(*cut, reduction="none", log_target=True).sum(-1)
    torch.testing.assert_close(parts_of(teacher, student, labels).others_R, expected, rtol=RELATIVE, atol=0.0)


def test_the_target_equals_the_divergence_of_two_coins() -> None:
    student, teacher = logit_pair(seed=2)
    labels = labels_for(student)
    p, q = (logits.softmax(-1).gather(-1, labels[:, None]).squeeze(-1) for logits in (teacher, student))
    expected = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    parts = parts_of(teacher, student, labels)
    torch.testing.assert_close(parts.target_R, expected, rtol=RELATIVE, atol=1e-15)
    torch.testing.assert_close(parts.rest_R, 1 - p)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("side", ["teacher", "both"])
def test_coupled_with_equal_weights_is_the_forward_kl(temperature: float, side: str) -> None:
    student, teacher = logit_pair()
    labels = labels_for(student)
    whole = values_of(ForwardKL(temperature_on=side), student, teacher, temperature=temperature)
    objective = DecoupledKD(alpha=1.0, beta=1.0, coupled=True, temperature_on=side)
    values = values_of(objective, student, teacher, labels, temperature=temperature)
    torch.testing.assert_close(values, whole, rtol=1e-12, atol=0.0)


@given(logit_lists(4), logit_lists(4))
@settings(derandomize=True, deadline=None, max_examples=50)
def test_the_parts_add_up_to_the_kl_and_are_never_negative(student: list[float], teacher: list[float]) -> None:
    z_s, z_t = row_of(student), row_of(teacher)
    parts = parts_of(z_t, z_s, torch.tensor([2]))
    assert parts.target_R.item() >= -1e-12 and parts.others_R.item() >= -1e-12
    together = parts.target_R + parts.rest_R * parts.others_R
    torch.testing.assert_close(together, values_of(ForwardKL(), z_s, z_t), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("objective", [DecoupledKD(), DecoupledKD(coupled=True, temperature_on="teacher")])
def test_the_gradient_is_that_of_the_value(objective: DecoupledKD) -> None:
    assert passes_gradcheck(objective, temperature=2.0)


def test_a_label_certain_in_float32_keeps_the_others() -> None:
    # 1 − p(label) is exactly 0 in float32 here; the others still have an order to teach.
    teacher, student = torch.tensor([[60.0, 2.0, 1.0]]), torch.tensor([[50.0, 1.0, 2.0]])
    parts = parts_of(teacher, student, torch.tensor([0]))
    exact = parts_of(teacher.double(), student.double(), torch.tensor([0]))
    torch.testing.assert_close(parts.others_R.double(), exact.others_R, rtol=1e-5, atol=0.0)
    assert parts.others_R.item() > 0.1
    gradient = gradient_of(DecoupledKD(), student, teacher, torch.tensor([0]))
    assert gradient.isfinite().all() and gradient[0, 1:].abs().min() > 1.0


def test_a_teacher_that_rules_out_everything_else_says_nothing_about_it() -> None:
    teacher, student = torch.tensor([[0.0, -math.inf, -math.inf]]), torch.tensor([[0.0, 1.0, 2.0]])
    parts = parts_of(teacher, student, torch.tensor([0]))
    assert parts.others_R.item() == 0.0 and parts.rest_R.item() == 0.0
    torch.testing.assert_close(parts.target_R, -student.log_softmax(-1)[:, 0])
    assert gradient_of(DecoupledKD(), student, teacher, torch.tensor([0])).isfinite().all()


def test_two_classes_leave_nothing_among_the_others() -> None:
    student, teacher = logit_pair(classes=2)
    assert parts_of(teacher, student, labels_for(student)).others_R.abs().max() == 0.0


def test_negative_weights_are_refused() -> None:
    with pytest.raises(ValueError, match="alpha and beta are weights and must be ≥ 0"):
        DecoupledKD(beta=-1.0)


def test_missing_labels_are_an_error() -> None:
    with pytest.raises(ValueError, match="the batch has no `labels`"):
        values_of(DecoupledKD(), *logit_pair(), temperature=4.0)


def test_the_formula_shows_the_coupling() -> None:
    assert DecoupledKD().formula() == "τ²·(1·TCKD + 8·NCKD)(teacher/τ ‖ student/τ)"
    assert "(1−p_y)·NCKD" in DecoupledKD(coupled=True).formula()
