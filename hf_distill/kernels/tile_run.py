"""The pass over the tiles: logits of some rows, their divergences and gradient in place of them, products with it.

Shape legend: R rows of a call, r rows of a tile or block, P passes of the student, K terms, W ids in use.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hf_distill.kernels.block_terms import BlockData, BlockTerms
from hf_distill.kernels.head_rows import HeadRows, LogitRows
from hf_distill.kernels.projection import LOWEST, HeadGradients, Projection, at_least_float32
from hf_distill.kernels.row_terms import RowTerm
from hf_distill.kernels.scratch import Scratch
from hf_distill.kernels.tile_sizes import TileSizes, tile_sizes


class Job(NamedTuple):
    """A call of `tiled_loss`, checked; `scale` is () or (R,), the student has `passes` · R rows."""

    student: HeadRows
    terms: list[RowTerm]
    teacher: HeadRows | LogitRows | None
    labels_R: Tensor | None
    scale: Tensor
    shared_width: int | None
    budget_bytes: int | None
    passes: int


class Done(NamedTuple):
    """What came out; `gradients` are those of hidden states, weight and bias once multiplied by `factor`."""

    loss: Tensor
    values_KR: Tensor
    gradients: tuple[Tensor | None, ...]
    factor: Tensor


class TileRun:
    """One pass over the tiles of a call.

    Args:
        job: The call.
        needed: Which of hidden states, weight and bias need a gradient.
    """

    def __init__(self, job: Job, needed: tuple[bool, bool, bool]) -> None:
        student, teacher = job.student, job.teacher
        self._job = job
        self._rows = student.rows // job.passes
        self._shared = job.shared_width or min(student.width, teacher.width if teacher else student.width)
        # Ids beyond the shared ones do not matter to what is compared with the teacher.
        whole = any(term.needs_labels or not term.needs_teacher or not term.closed for term in job.terms)
        own = student.width if whole else self._shared
        self._student = Projection(student, own)
        self._teacher = Projection(teacher, self._shared) if isinstance(teacher, HeadRows) else None
        self._work = at_least_float32(self._student.dtype)
        if self._teacher is not None:
            self._work = torch.promote_types(self._work, self._teacher.dtype)
        self._wanted = any(needed)
        self._terms = BlockTerms(
            job.terms,
            shared=self._shared,
            own=own,
            gradient=self._wanted,
            keep_student=self._wanted and student.softcap is not None,
            passes=job.passes,
        )
        self._like = student.hidden_RH.new_empty(0)
        self._sizes = self._tile_sizes(own)
        self._scratch = Scratch(self._sizes.block, own, like=self._like.to(self._work))
        self._student_tile = self._like.new_empty(job.passes, self._sizes.student, own, dtype=self._student.dtype)
        self._teacher_tile: Tensor | None = None
        if teacher is not None:
            self._teacher_tile = self._like.new_empty(self._sizes.teacher, self._shared, dtype=self._teacher_dtype)
        row_scale_R, self._largest = _relative(job.scale)
        row_scale = None if row_scale_R is None else row_scale_R.repeat(job.passes)
        self._gradients = HeadGradients(self._student, student, needed, row_scale)
        self._values_KR = self._like.new_zeros(len(job.terms), self._rows, dtype=self._work)

    @property
    def _teacher_dtype(self) -> torch.dtype:
        return self._work if self._teacher is None else self._teacher.dtype

    def _tile_sizes(self, own: int) -> TileSizes:
        return tile_sizes(
            self._rows,
            student_row_bytes=self._job.passes * own * self._student.dtype.itemsize,
            teacher_row_bytes=0 if self._job.teacher is None else self._shared * self._teacher_dtype.itemsize,
            block_row_bytes=own * self._work.itemsize,
            device=self._like.device,
            budget_bytes=self._job.budget_bytes,
        )

    def done(self) -> Done:
        """Go through all tiles."""
        # Types have been settled; autocast must not change them again.
        with torch.autocast(self._like.device.type, enabled=False):
            for start in range(0, self._rows, self._sizes.student):
                self._one_tile(start, min(start + self._sizes.student, self._rows))
        weights_K1 = self._values_KR.new_tensor([[term.weight] for term in self._job.terms])
        loss = (weights_K1 * self._values_KR * self._job.scale.to(self._work)).sum()
        factor = self._largest * (self._terms.unit * self._job.student.scale / self._gradients.boost)
        return Done(loss, self._values_KR, self._gradients.tensors(), factor)

    def _one_tile(self, start: int, stop: int) -> None:
        student_PrW = self._student_tile[:, : stop - start]
        for number, student_rW in enumerate(student_PrW):
            offset = number * self._rows
            self._student.write(offset + start, offset + stop, student_rW)
        for first in range(start, stop, self._sizes.teacher):
            self._one_teacher_tile(first, min(first + self._sizes.teacher, stop), student_PrW[:, first - start :])
        if self._wanted:
            for number, gradient_rW in enumerate(student_PrW):
                offset = number * self._rows
                self._gradients.add(offset + start, offset + stop, gradient_rW)

    def _one_teacher_tile(self, start: int, stop: int, student_PrW: Tensor) -> None:
        teacher_rW = self._teacher_rows(start, stop)
        for first in range(0, stop - start, self._sizes.block):
            part = slice(first, min(first + self._sizes.block, stop - start))
            self._one_block(student_PrW[:, part], None if teacher_rW is None else teacher_rW[part], start + first)

    def _teacher_rows(self, start: int, stop: int) -> Tensor | None:
        if self._teacher_tile is None:
            return None
        out_rW, teacher = self._teacher_tile[: stop - start], self._job.teacher
        if self._teacher is not None:
            self._teacher.write(start, stop, out_rW)
        elif isinstance(teacher, LogitRows):
            lowest = torch.finfo(out_rW.dtype).min * LOWEST
            out_rW.copy_(teacher.read(start, stop)[:, : self._shared]).clamp_(min=lowest)
        return out_rW

    def _one_block(self, student_PrW: Tensor, teacher_rW: Tensor | None, start: int) -> None:
        scratch, stop = self._scratch, start + student_PrW.shape[1]
        scratch.give_back()
        tiles = list(student_PrW)
        students = [scratch.converted(tile) for tile in tiles]
        for student_rW in students:
            self._student.finish_(student_rW)
        if teacher_rW is not None:
            teacher_rW = scratch.converted(teacher_rW)
            if self._teacher is not None:
                self._teacher.finish_(teacher_rW)
        labels_r = None if self._job.labels_R is None else self._job.labels_R[start:stop]
        data = BlockData(students, teacher_rW, labels_r, self._values_KR[:, start:stop])
        gradients = self._terms.compute(data, scratch)
        if self._wanted:
            for tile, student_rW, gradient_rW in zip(tiles, students, gradients, strict=True):
                self._put(tile, student_rW, gradient_rW)

    def _put(self, tile_rW: Tensor, student_rW: Tensor, gradient_rW: Tensor) -> None:
        """Write the gradient where the logits came from."""
        self._student.undo_softcap_(gradient_rW, student_rW)
        if self._gradients.boost != 1.0:
            gradient_rW.mul_(self._gradients.boost)
        if gradient_rW.data_ptr() != tile_rW.data_ptr():
            tile_rW.copy_(gradient_rW)


def _relative(scale: Tensor) -> tuple[Tensor | None, Tensor]:
    """Return each row's scale relative to the largest, and the largest; None where one number scales all rows."""
    if scale.dim() == 0:
        return None, scale
    largest = torch.cat([scale.abs(), scale.new_full((1,), torch.finfo(scale.dtype).tiny)]).amax()
    return scale / largest, largest
