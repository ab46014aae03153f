"""Several terms on one block of rows: their values, and the gradient of their weighted sum.

A block is small enough for the processor's cache. Shape legend: P passes of the student, r rows of a block, K terms,
V vocabulary, W ≤ V.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hf_distill.kernels.closed_forms import CLOSED_FORMS, Block
from hf_distill.kernels.entries import Entry, lay_out
from hf_distill.kernels.pass_forms import PASS_FORMS, PassBlock
from hf_distill.kernels.row_terms import RowTerm
from hf_distill.kernels.scratch import Scratch
from hf_distill.kernels.softmaxes import Softmaxes
from hf_distill.reading.signals import Signals


class BlockData(NamedTuple):
    """What is known of a block.

    Shapes: `students` (r, own) for each pass, `teacher_rW` (r, shared), `labels_r` (r,); `values_Kr` (K, r) is to be
    written.
    """

    students: Sequence[Tensor]
    teacher_rW: Tensor | None
    labels_r: Tensor | None
    values_Kr: Tensor


class BlockTerms:
    """The terms of a loss, laid out once for all blocks.

    A softmax is computed once for all terms that read it, and memory is written over once nobody reads it any more.

    Args:
        terms: What is computed.
        shared: Ids common to student and teacher: the width of what is compared.
        own: Width of the student's logits that come in.
        gradient: Whether a gradient is wanted.
        keep_student: Whether the caller reads the student's logits after `compute`.
        passes: Of the student.

    Attributes:
        unit: By which number the gradient of `compute` has to be multiplied: the weight largest in size, so that what
            is written stays near 1, where half precision is fine.
    """

    def __init__(
        self,
        terms: Sequence[RowTerm],
        *,
        shared: int,
        own: int,
        gradient: bool,
        keep_student: bool = False,
        passes: int = 1,
    ) -> None:
        self._gradient = gradient
        self._shared = shared
        self._entries = lay_out(terms, shared=shared, own=own, passes=passes)
        open_terms = not all(term.closed for term in terms)
        # Of a pass, one distribution only is read: its logits are then free for the gradient.
        views = {view for entry in self._entries for view in entry.students}
        self._keep_student = keep_student or open_terms or len(views) > passes
        self._keep_teacher = open_terms or len({entry.teacher for entry in self._entries} - {None}) > 1
        # One entry: logits, softmax and gradient take turns in the same memory.
        self._alone = len(self._entries) == 1 and not self._keep_student
        self.unit = max((term.weight for term in terms), key=abs) or 1.0

    def compute(self, data: BlockData, scratch: Scratch) -> list[Tensor]:
        """Write the terms' values and return the gradient of Σ weight · value / `unit`; logits may be written over.

        The gradient lies where the logits were or in scratch memory; where none is wanted, it means nothing.

        Shapes: returns (r, own) for each pass.
        """
        softmaxes = Softmaxes(
            data.students,
            data.teacher_rW,
            scratch,
            keep_student=not self._alone,
            keep_teacher=self._keep_teacher,
        )
        keep = self._keep_student
        totals = [scratch.take(*one.shape) if keep else one for one in data.students]
        for entry in self._entries:
            if entry.term.compares_passes:
                self._across_passes(entry, data, softmaxes, scratch, totals)
            elif entry.term.closed:
                self._closed(entry, data, softmaxes, scratch, totals)
            else:
                self._by_autograd(entry, data, totals)
        return totals

    def _closed(
        self, entry: Entry, data: BlockData, softmaxes: Softmaxes, scratch: Scratch, totals: Sequence[Tensor]
    ) -> None:
        term, (view,) = entry.term, entry.students
        # The softmaxes first: they read logits whose memory the gradient may get.
        q = softmaxes.student(view)
        p = None if entry.teacher is None else softmaxes.teacher(entry.teacher)
        shape = q.log_rV.shape
        work_q = q.log_rV if entry.spare_student else scratch.take(*shape)
        work_p = None
        if p is not None:
            work_p = p.log_rV if entry.spare_teacher else scratch.take(*shape)
        out, direct = _out(entry, view.number, totals[view.number], scratch, shape[1])
        block = Block(p, q, data.labels_r, work_p, work_q, scratch.take(*shape), out, self._gradient)
        form = CLOSED_FORMS[type(term.objective)](term.objective, block)
        _write_value(entry, form.values_r, term.value_factor, data.values_Kr)
        if self._gradient:
            factor = form.factor * term.gradient_factor * term.weight * entry.share / self.unit
            _add(totals[view.number], None if direct else out, factor, begins=view.number in entry.begins)

    def _across_passes(
        self, entry: Entry, data: BlockData, softmaxes: Softmaxes, scratch: Scratch, totals: Sequence[Tensor]
    ) -> None:
        term = entry.term
        distributions = [softmaxes.student(view) for view in entry.students]
        targets = [
            _out(entry, view.number, totals[view.number], scratch, one.log_rV.shape[1])
            for view, one in zip(entry.students, distributions, strict=True)
        ]
        block = PassBlock(distributions, scratch, [out for out, _ in targets], self._gradient)
        form = PASS_FORMS[type(term.objective)](term.objective, block)
        _write_value(entry, form.values_r, 1.0, data.values_Kr)
        if self._gradient:
            factor = form.factor * term.weight * entry.share / self.unit
            for number, (out, direct) in enumerate(targets):
                _add(totals[number], None if direct else out, factor, begins=number in entry.begins)

    def _by_autograd(self, entry: Entry, data: BlockData, totals: Sequence[Tensor]) -> None:
        term, number = entry.term, entry.students[0].number
        with torch.set_grad_enabled(self._gradient):
            leaf_rV = data.students[number].detach().requires_grad_(self._gradient)
            signals = Signals(
                student_logits=leaf_rV,
                labels=data.labels_r,
                teacher_logits=data.teacher_rW,
                shared_width=self._shared,
            )
            found_r = term.objective.values(signals, temperature=term.temperature)
            _write_value(entry, found_r.detach(), 1.0, data.values_Kr)
            if self._gradient:
                (gradient_rV,) = torch.autograd.grad(found_r.sum(), leaf_rV)
                factor = term.weight * entry.share / self.unit
                _add(totals[number], gradient_rV, factor, begins=number in entry.begins)


def _out(entry: Entry, number: int, total_rV: Tensor, scratch: Scratch, width: int) -> tuple[Tensor, bool]:
    """Return where a gradient goes, and whether that is the sum itself: where it is the first, and as wide."""
    direct = number in entry.begins and width == total_rV.shape[1]
    return (total_rV if direct else scratch.take(total_rV.shape[0], width)), direct


def _write_value(entry: Entry, found_r: Tensor, factor: float, values_Kr: Tensor) -> None:
    values_r = values_Kr[entry.row]
    if entry.first:
        torch.mul(found_r, factor * entry.share, out=values_r)
    else:
        values_r.add_(found_r, alpha=factor * entry.share)


def _add(total_rV: Tensor, gradient_rW: Tensor | None, factor: float, *, begins: bool) -> None:
    """Add factor · gradient to the first columns of the total; None: it is written there already, without factor."""
    if gradient_rW is None:
        if factor != 1.0:
            total_rV.mul_(factor)
        return
    if begins:
        total_rV.zero_()
    total_rV[:, : gradient_rW.shape[1]].add_(gradient_rW, alpha=factor)
