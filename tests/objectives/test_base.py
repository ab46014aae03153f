"""The declaration of an objective decides what is computed for it."""

from __future__ import annotations

import pytest
import torch

from hf_distill.objectives import OBJECTIVES, CrossEntropy, ForwardKL, Objective, TeacherMeanSquaredError


def test_the_teacher_runs_only_for_objectives_that_need_it():
    assert ForwardKL().uses_teacher
    assert TeacherMeanSquaredError().uses_teacher
    assert not CrossEntropy().uses_teacher


def test_one_value_belongs_to_one_label_unless_the_objective_says_otherwise():
    assert Objective.unit == "label"
    assert Objective.needs == frozenset()


def test_an_objective_without_values_cannot_be_made():
    class Nothing(Objective):
        def formula(self) -> str:
            return "0"

    with pytest.raises(TypeError, match="abstract"):
        Nothing()


def test_positional_arguments_cannot_swap_meanings():
    with pytest.raises(TypeError, match="positional"):
        CrossEntropy(0.1)


@pytest.mark.parametrize("name", OBJECTIVES.names())
def test_a_missing_target_is_named_before_torch_stumbles_over_it(name):
    from hf_distill.reading.signals import Signals

    with pytest.raises(ValueError, match="this objective compares"):
        OBJECTIVES.get(name)().values(Signals(student_logits=torch.zeros(2, 3)), temperature=1.0)
