"""Squared errors of a regression head: averaged over outputs, never broadcast."""

from __future__ import annotations

import pytest
import torch

from hf_distill.objectives import MeanSquaredError, TeacherMeanSquaredError
from hf_distill.objectives.mean_squared_error import squared_error
from hf_distill.reading.signals import Signals


def test_one_output_and_flat_labels_are_compared_one_by_one():
    """(R, 1) against (R,) would broadcast to (R, R) and train towards the mean."""
    prediction, labels = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([1.0, 4.0, 0.0])
    assert squared_error(prediction, labels).tolist() == [0.0, 4.0, 9.0]


def test_several_outputs_are_averaged():
    prediction, labels = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[1.0, 4.0], [3.0, 4.0]])
    assert squared_error(prediction, labels).tolist() == [2.0, 12.5]


@pytest.mark.parametrize("target", [torch.zeros(3), torch.zeros(3, 2), torch.zeros(2, 4)])
def test_another_number_of_outputs_is_refused(target):
    with pytest.raises(ValueError, match=r"predictions have shape \(2, 2\)|predictions have shape \(3, 3\)"):
        squared_error(torch.zeros(3, 3) if target.shape[0] == 3 else torch.zeros(2, 2), target)


def test_no_examples_have_no_errors():
    assert squared_error(torch.zeros(0, 1), torch.zeros(0)).shape == (0,)


def test_whole_number_labels_are_taken_as_numbers():
    signals = Signals(student_logits=torch.tensor([[0.5]]), labels=torch.tensor([2]))
    assert MeanSquaredError().values(signals, temperature=1.0).tolist() == [2.25]


def test_the_teachers_prediction_is_the_target():
    signals = Signals(
        student_logits=torch.tensor([[0.5], [1.0]]),
        labels=torch.tensor([9.0, 9.0]),
        teacher_logits=torch.tensor([[1.5], [1.0]]),
    )
    assert TeacherMeanSquaredError().values(signals, temperature=1.0).tolist() == [1.0, 0.0]


def test_a_regression_has_no_temperature():
    signals = Signals(student_logits=torch.tensor([[0.5]]), teacher_logits=torch.tensor([[1.5]]))
    objective = TeacherMeanSquaredError()
    assert torch.equal(objective.values(signals, temperature=7.0), objective.values(signals, temperature=1.0))


def test_small_differences_survive_half_precision():
    prediction, label = torch.tensor([[100.0]], dtype=torch.float16), torch.tensor([100.25])
    assert squared_error(prediction, label).item() == 0.0625


def test_reports_tell_labels_from_the_teacher():
    assert MeanSquaredError().formula() == "MSE(labels)"
    assert TeacherMeanSquaredError().formula() == "MSE(teacher)"
