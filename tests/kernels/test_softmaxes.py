"""Distributions of a block: computed once, with the temperature, and over logits only where nobody wants those."""

from __future__ import annotations

import torch
from logit_cases import logit_pair

from hf_distill.kernels.row_terms import View
from hf_distill.kernels.scratch import Scratch
from hf_distill.kernels.softmaxes import Softmaxes, StudentView

STUDENT_RV, TEACHER_RV = logit_pair(4, 7)


def softmaxes(student_RV: torch.Tensor, teacher_RV: torch.Tensor, *, keep: bool) -> Softmaxes:
    return Softmaxes([student_RV], teacher_RV, Scratch(4, 7, like=STUDENT_RV), keep_student=keep, keep_teacher=keep)


def test_a_distribution_is_the_softmax_of_the_first_ids_at_a_temperature():
    seen = softmaxes(STUDENT_RV.clone(), TEACHER_RV.clone(), keep=True)
    for temperature, width in ((1.0, 7), (2.0, 7), (0.5, 4)):
        found = seen.student(StudentView(0, View(temperature, width)))
        expected = (STUDENT_RV[:, :width] / temperature).log_softmax(-1)
        torch.testing.assert_close(found.log_rV, expected)
        torch.testing.assert_close(found.prob_rV, expected.exp())
        assert seen.student(StudentView(0, View(temperature, width))) is found


def test_logits_that_are_still_wanted_are_kept():
    student_RV, teacher_RV = STUDENT_RV.clone(), TEACHER_RV.clone()
    seen = softmaxes(student_RV, teacher_RV, keep=True)
    seen.student(StudentView(0, View(2.0, 7)))
    seen.teacher(View(2.0, 7))
    assert torch.equal(student_RV, STUDENT_RV) and torch.equal(teacher_RV, TEACHER_RV)


def test_memory_of_other_logits_is_used_again():
    student_RV, teacher_RV = STUDENT_RV.clone(), TEACHER_RV.clone()
    seen = softmaxes(student_RV, teacher_RV, keep=False)
    assert seen.student(StudentView(0, View(1.0, 7))).prob_rV.data_ptr() == student_RV.data_ptr()
    assert seen.teacher(View(1.0, 7)).prob_rV.data_ptr() == teacher_RV.data_ptr()


def test_a_temperature_of_zero_is_the_argmax_and_never_gives_nan():
    found = softmaxes(STUDENT_RV.clone(), TEACHER_RV.clone(), keep=True).teacher(View(0.0, 7))
    assert torch.equal(found.prob_rV.argmax(-1), TEACHER_RV.argmax(-1))
    assert torch.equal(found.prob_rV.sum(-1), torch.ones(4, dtype=torch.float64))
    assert not (found.prob_rV * found.log_rV).any()
