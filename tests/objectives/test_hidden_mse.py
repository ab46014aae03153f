"""Squared error of hidden states: mean over dimensions, never broadcast, without a gradient to the teacher."""

from __future__ import annotations

import pytest
import torch

from hf_distill.objectives import HiddenMSE
from hf_distill.reading.signals import Signals


def values(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    return HiddenMSE().values(Signals(student_hidden=student, teacher_hidden=teacher), temperature=temperature)


def test_each_position_has_the_mean_over_its_dimensions():
    student, teacher = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    assert values(student, teacher).tolist() == [2.0, 12.5]


def test_predicting_the_mean_of_a_standardised_target_costs_one():
    target = torch.randn(2000, 50)
    target = (target - target.mean(0)) / target.std(0, correction=0)
    assert values(torch.zeros(2000, 50), target).mean().item() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("shape", [(3, 1), (1, 4), (2, 4), (3, 5)])
def test_states_of_other_shapes_are_refused_and_not_broadcast(shape):
    with pytest.raises(ValueError, match=r"student's hidden states have shape \(3, 4\) and the teacher's \("):
        values(torch.zeros(3, 4), torch.zeros(shape))


def test_small_differences_survive_half_precision():
    student, teacher = torch.full((1, 2), 100.0, dtype=torch.float16), torch.full((1, 2), 100.25)
    assert values(student, teacher).item() == 0.0625
    assert values(student.double(), teacher.double()).dtype == torch.float64


def test_no_positions_have_no_errors():
    assert values(torch.zeros(0, 4), torch.zeros(0, 4)).shape == (0,)


def test_the_teacher_gets_no_gradient():
    student, teacher = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    values(student, teacher).sum().backward()
    torch.testing.assert_close(student.grad, (student - teacher).detach() / 2)
    assert teacher.grad is None


def test_hidden_states_have_no_temperature():
    student, teacher = torch.randn(3, 4), torch.randn(3, 4)
    assert torch.equal(values(student, teacher, 7.0), values(student, teacher))


def test_a_stage_without_hidden_states_is_named():
    with pytest.raises(ValueError, match="the stage reads none; use it in `extraction`"):
        HiddenMSE().values(Signals(student_logits=torch.zeros(2, 3)), temperature=1.0)


def test_reports_name_it():
    assert HiddenMSE().formula() == "MSE(hidden)"
    assert HiddenMSE().uses_teacher
    assert HiddenMSE.unit == "token"
