"""Several terms on one block of rows: their values, and the gradient of their weighted sum.

A block is small enough for the processor's cache. Shape legend: r rows of a block, K terms, V vocabulary, W ≤ V.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hf_distill.kernels.closed_forms import CLOSED_FORMS, Block, Distribution
from hf_distill.kernels.row_terms import RowTerm, View
from hf_distill.kernels.scratch import Scratch
from hf_distill.signals import Signals


class BlockTerms:
    """The terms of a loss, laid out once for all blocks.

    A softmax is computed once for all terms that read it, and memory is written over once nobody reads it any more.

    Args:
        terms: What is computed.
        shared: Ids common to student and teacher: the width of what is compared.
        own: Width of the student's logits that come in.
        gradient: Whether a gradient is wanted.
        keep_student: Whether the caller reads the student's logits after `compute`.

    Attributes:
        unit: By which number the gradient of `compute` has to be multiplied: the weight largest in size, so that what
            is written stays near 1, where half precision is fine.
    """

    def __init__(
        self, terms: Sequence[RowTerm], *, shared: int, own: int, gradient: bool, keep_student: bool = False
    ) -> None:
        self._terms = terms
        self._gradient = gradient
        self._shared = shared
        self._students = [term.student_view(shared, own) for term in terms]
        self._teachers = [term.teacher_view(shared) for term in terms]
        open_terms = not all(term.closed for term in terms)
        self._keep_student = keep_student or open_terms or len(set(self._students)) > 1
        self._keep_teacher = open_terms or len(set(self._teachers) - {None}) > 1
        # One closed form: its logits, its softmax and its gradient take turns in the same memory.
        self._alone = len(terms) == 1 and not self._keep_student
        self.unit = max((term.weight for term in terms), key=abs) or 1.0

    def compute(
        self,
        student_rV: Tensor,
        teacher_rW: Tensor | None,
        labels_r: Tensor | None,
        *,
        scratch: Scratch,
        values_Kr: Tensor,
    ) -> Tensor:
        """Write the terms' values and return the gradient of Σ weight · value / `unit`; logits may be written over.

        The gradient lies in `student_rV` itself or in scratch memory; where none is wanted, it means nothing.

        Shapes: `student_rV` (r, own), `teacher_rW` (r, shared), `labels_r` (r,), `values_Kr` (K, r); returns (r, own).
        """
        softmaxes = _Softmaxes(
            student_rV, teacher_rW, scratch, keep_student=not self._alone, keep_teacher=self._keep_teacher
        )
        total_rV = scratch.take(*student_rV.shape) if self._keep_student else student_rV
        for index, term in enumerate(self._terms):
            if term.closed:
                self._closed(index, softmaxes, labels_r, scratch, values_Kr[index], total_rV)
            else:
                self._by_autograd(index, student_rV, teacher_rW, labels_r, values_Kr[index], total_rV)
        return total_rV

    def _closed(
        self,
        index: int,
        softmaxes: _Softmaxes,
        labels_r: Tensor | None,
        scratch: Scratch,
        values_r: Tensor,
        total_rV: Tensor,
    ) -> None:
        term, student, teacher = self._terms[index], self._students[index], self._teachers[index]
        # The softmaxes first: they read logits whose memory the gradient may get.
        q = softmaxes.student(student)
        p = None if teacher is None else softmaxes.teacher(teacher)
        # The last term that reads a distribution may write over its logarithms.
        work_q = scratch.take(*q.log_rV.shape) if student in self._students[index + 1 :] else q.log_rV
        work_p = None
        if p is not None:
            work_p = scratch.take(*p.log_rV.shape) if teacher in self._teachers[index + 1 :] else p.log_rV
        # The first gradient is written where the sum goes, if it is as wide.
        direct = index == 0 and student.width == total_rV.shape[1]
        out = total_rV if direct else scratch.take(*q.log_rV.shape)
        block = Block(p, q, labels_r, work_p, work_q, scratch.take(*q.log_rV.shape), out, self._gradient)
        form = CLOSED_FORMS[type(term.objective)](term.objective, block)
        torch.mul(form.values_r, term.value_factor, out=values_r)
        if self._gradient:
            factor = form.factor * term.gradient_factor * term.weight / self.unit
            _add(total_rV, None if direct else out, factor, first=index == 0)

    def _by_autograd(
        self,
        index: int,
        student_rV: Tensor,
        teacher_rW: Tensor | None,
        labels_r: Tensor | None,
        values_r: Tensor,
        total_rV: Tensor,
    ) -> None:
        term = self._terms[index]
        with torch.set_grad_enabled(self._gradient):
            leaf_rV = student_rV.detach().requires_grad_(self._gradient)
            signals = Signals(
                student_logits=leaf_rV, labels=labels_r, teacher_logits=teacher_rW, shared_width=self._shared
            )
            found_r = term.objective.values(signals, temperature=term.temperature)
            values_r.copy_(found_r.detach())
            if self._gradient:
                (gradient_rV,) = torch.autograd.grad(found_r.sum(), leaf_rV)
                _add(total_rV, gradient_rV, term.weight / self.unit, first=index == 0)


class _Softmaxes:
    """The distributions of one block, each computed when a term first reads it."""

    def __init__(
        self,
        student_rV: Tensor,
        teacher_rW: Tensor | None,
        scratch: Scratch,
        *,
        keep_student: bool,
        keep_teacher: bool,
    ) -> None:
        self._student_rV = student_rV
        self._teacher_rW = teacher_rW
        self._scratch = scratch
        self._keep_student = keep_student
        self._keep_teacher = keep_teacher
        self._students: dict[View, Distribution] = {}
        self._teachers: dict[View, Distribution] = {}

    def student(self, view: View) -> Distribution:
        if view not in self._students:
            logits_rW = self._student_rV[:, : view.width]
            prob_rW = self._take(logits_rW) if self._keep_student else logits_rW
            self._students[view] = self._distribution(logits_rW, view.temperature, prob_rW)
        return self._students[view]

    def teacher(self, view: View) -> Distribution:
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


def _add(total_rV: Tensor, gradient_rW: Tensor | None, factor: float, *, first: bool) -> None:
    """Add factor · gradient to the first columns of the total; None: it is written there already, without factor."""
    if gradient_rW is None:
        if factor != 1.0:
            total_rV.mul_(factor)
        return
    if first:
        total_rV.zero_()
    total_rV[:, : gradient_rW.shape[1]].add_(gradient_rW, alpha=factor)
