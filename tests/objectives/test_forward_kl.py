"""Forward KL: its direction, its two temperatures, its limit, and what half precision may not do to it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.objectives import CrossEntropy, ForwardKL
from hf_distill.reading.signals import Signals


def pair(seed: int = 0, rows: int = 4, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (torch.randn(rows, classes, generator=generator, dtype=torch.float64) * 2 for _ in range(2))
    return student, teacher


def values(student: torch.Tensor, teacher: torch.Tensor, *, temperature: float = 1.0, **fields: str) -> torch.Tensor:
    return ForwardKL(**fields).values(Signals(student_logits=student, teacher_logits=teacher), temperature=temperature)


def test_the_teacher_is_the_first_argument():
    """KL(0.9 ‖ 0.5) and KL(0.5 ‖ 0.9) differ; the reverse one would let the student drop what the teacher allows."""
    sure, even = torch.tensor([[math.log(9.0), 0.0], [0.0, 0.0]], dtype=torch.float64).split(1)
    forward = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert values(even, sure).item() == pytest.approx(forward, rel=1e-12)
    assert values(sure, even).item() == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1), rel=1e-12)


def test_it_is_the_divergence_and_not_the_cross_entropy():
    student, teacher = pair()
    p = teacher.softmax(-1)
    cross_entropy = -(p * student.log_softmax(-1)).sum(-1)
    entropy = -(p * teacher.log_softmax(-1)).sum(-1)
    torch.testing.assert_close(values(student, teacher), cross_entropy - entropy, rtol=1e-10, atol=1e-12)


def test_the_default_temperature_divides_the_teacher_only():
    student, teacher = pair()
    expected = F.kl_div(student.log_softmax(-1), (teacher / 3).log_softmax(-1), reduction="none", log_target=True)
    torch.testing.assert_close(values(student, teacher, temperature=3.0), expected.sum(-1), rtol=1e-10, atol=1e-12)


def test_both_temperatures_come_with_the_square():
    student, teacher = pair()
    expected = F.kl_div(
        (student / 3).log_softmax(-1), (teacher / 3).log_softmax(-1), reduction="none", log_target=True
    )
    both = values(student, teacher, temperature=3.0, temperature_on="both")
    torch.testing.assert_close(both, 9.0 * expected.sum(-1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("where", "factor"), [("teacher", 1.0), ("both", 3.0)])
def test_the_gradient_is_student_minus_teacher(where, factor):
    student, teacher = pair()
    student.requires_grad_()
    values(student, teacher, temperature=3.0, temperature_on=where).sum().backward()
    q = (student.detach() / (3.0 if where == "both" else 1.0)).softmax(-1)
    torch.testing.assert_close(student.grad, factor * (q - (teacher / 3.0).softmax(-1)), rtol=1e-10, atol=1e-12)


def test_the_square_keeps_the_gradients_size_at_high_temperature():
    """Without τ² the gradient would shrink as 1/τ²; with it, it tends to (z_S − z_T − their means' difference) / V."""
    student, teacher = pair()
    student.requires_grad_()
    values(student, teacher, temperature=1e4, temperature_on="both").sum().backward()
    difference = student.detach() - teacher
    expected = (difference - difference.mean(-1, keepdim=True)) / student.shape[-1]
    torch.testing.assert_close(student.grad, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("temperature", [0.0, 1e-20, 9e-4])
def test_near_zero_the_teacher_is_its_arg_max(temperature):
    student, teacher = pair()
    labels = Signals(student_logits=student, labels=teacher.argmax(-1))
    expected = CrossEntropy().values(labels, temperature=1.0)
    assert torch.equal(values(student, teacher, temperature=temperature), expected)


def test_the_arg_max_is_the_limit_from_above():
    student, teacher = pair()
    cold = values(student, teacher, temperature=2e-3)
    torch.testing.assert_close(cold, values(student, teacher, temperature=0.0), rtol=1e-6, atol=1e-6)


def test_both_temperatures_have_no_limit_at_zero():
    with pytest.raises(ValueError, match=r"temperature_on: both has no limit at temperature 1e-20"):
        values(*pair(), temperature=1e-20, temperature_on="both")


def test_an_outcome_that_the_teacher_excludes_costs_nothing():
    student = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor([[0.0, 0.0, -math.inf]], dtype=torch.float64)
    value = values(student, teacher)
    value.sum().backward()
    assert value.item() == pytest.approx(math.log(3 / 2), rel=1e-12)
    assert student.grad.tolist()[0] == pytest.approx([1 / 3 - 1 / 2, 1 / 3 - 1 / 2, 1 / 3], rel=1e-12)


def test_an_outcome_that_both_exclude_costs_nothing():
    excluded = torch.tensor([[0.0, 1.0, -math.inf]], dtype=torch.float64)
    student = excluded.clone().requires_grad_()
    value = values(student, excluded)
    value.sum().backward()
    assert value.item() == 0.0
    assert student.grad.abs().max().item() == 0.0


def test_an_outcome_that_only_the_student_excludes_costs_without_bound():
    student = torch.tensor([[0.0, -math.inf]])
    assert values(student, torch.zeros(1, 2)).item() == math.inf


@settings(derandomize=True, deadline=None, max_examples=25)
@given(seed=st.integers(0, 1000), shift=st.floats(-50.0, 50.0))
def test_adding_a_constant_to_the_logits_changes_nothing(seed, shift):
    student, teacher = pair(seed)
    torch.testing.assert_close(
        values(student + shift, teacher - shift), values(student, teacher), rtol=1e-9, atol=1e-10
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_compared_in_float32(dtype):
    student, teacher = (logits.to(dtype) for logits in pair(classes=1000))
    assert torch.equal(values(student, teacher), values(student.float(), teacher.float()))


def test_only_the_shared_ids_are_compared():
    student, teacher = pair()
    wider = torch.cat([student, torch.full((4, 3), 100.0, dtype=torch.float64)], -1)
    signals = Signals(student_logits=wider, teacher_logits=teacher, shared_width=5)
    assert torch.equal(ForwardKL().values(signals, temperature=1.0), values(student, teacher))


def test_reports_tell_the_two_temperatures_apart():
    assert ForwardKL().formula() == "KL(teacher/τ ‖ student)"
    assert ForwardKL(temperature_on="both").formula() == "τ²·KL(teacher/τ ‖ student/τ)"
