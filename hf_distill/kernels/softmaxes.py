"""The distributions of one block of rows, each computed when a term first reads it.

Shape legend: r rows of a block, V vocabulary, W ≤ V.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hf_distill.kernels.closed_forms import Distribution
from hf_distill.kernels.row_terms import View
from hf_distill.kernels.scratch import Scratch


class StudentView(NamedTuple):
    """A distribution of one of the student's passes."""

    number: int
    view: View


class Softmaxes:
    """Turns the logits of a block into distributions, once for all that read them.

    Args:
        students: The student's logits, for each pass.
        teacher_rW: The teacher's, where there is one.
        scratch: Gives memory.
        keep_student: Whether the student's logits are still wanted; otherwise probabilities are written over them.
        keep_teacher: The same for the teacher's.
    """

    def __init__(
        self,
        students: Sequence[Tensor],
        teacher_rW: Tensor | None,
        scratch: Scratch,
        *,
        keep_student: bool,
        keep_teacher: bool,
    ) -> None:
        self._student_logits = students
        self._teacher_rW = teacher_rW
        self._scratch = scratch
        self._keep_student = keep_student
        self._keep_teacher = keep_teacher
        self._students: dict[StudentView, Distribution] = {}
        self._teachers: dict[View, Distribution] = {}

    def student(self, wanted: StudentView) -> Distribution:
        """Return what a pass of the student says."""
        if wanted not in self._students:
            logits_rW = self._student_logits[wanted.number][:, : wanted.view.width]
            prob_rW = self._take(logits_rW) if self._keep_student else logits_rW
            self._students[wanted] = self._distribution(logits_rW, wanted.view.temperature, prob_rW)
        return self._students[wanted]

    def teacher(self, view: View) -> Distribution:
        """Return what the teacher says."""
        if view not in self._teachers:
            assert self._teacher_rW is not None, "the caller has checked for a teacher"
            prob_rW = self._take(self._teacher_rW) if self._keep_teacher else self._teacher_rW
            make = self._distribution if view.temperature else self._argmax
            self._teachers[view] = make(self._teacher_rW, view.temperature, prob_rW)
        return self._teachers[view]

    def _take(self, like_rW: Tensor) -> Tensor:
        return self._scratch.take(*like_rW.shape)

    def _distribution(self, logits_rW: Tensor, temperature: float, prob_rW: Tensor) -> Distribution:
        log_rW = self._take(logits_rW)
        if temperature != 1.0:
            logits_rW = torch.mul(logits_rW, 1.0 / temperature, out=prob_rW)
        torch.log_softmax(logits_rW, -1, out=log_rW)
        return Distribution(log_rW, torch.exp(log_rW, out=prob_rW))

    def _argmax(self, logits_rW: Tensor, temperature: float, prob_rW: Tensor) -> Distribution:
        # log p is only ever multiplied by p: 0 where p is 1, and anything finite where p is 0.
        best_r1 = logits_rW.argmax(-1, keepdim=True)
        return Distribution(self._take(logits_rW).zero_(), prob_rW.zero_().scatter_(1, best_r1, 1.0))
