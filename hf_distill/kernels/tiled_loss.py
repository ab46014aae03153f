"""Head to divergence in tiles: the loss of a head's rows and its gradient, without their logits ever being whole.

Shape legend: R rows, K terms, H width of the hidden states, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hf_distill.kernels.head_rows import HeadRows, LogitRows
from hf_distill.kernels.projection import at_least_float32
from hf_distill.kernels.row_terms import RowTerm
from hf_distill.kernels.tile_run import Job, TileRun


class RowLoss(NamedTuple):
    """A loss over rows, and what it is made of.

    Shapes: `loss` scalar with its graph; `values_KR` (K, R), the terms' unreduced and unweighted values, detached.
    """

    loss: Tensor
    values_KR: Tensor


def tiled_loss(
    student: HeadRows,
    terms: Sequence[RowTerm],
    *,
    teacher: HeadRows | LogitRows | None = None,
    labels_R: Tensor | None = None,
    scale: Tensor | float = 1.0,
    shared_width: int | None = None,
    budget_bytes: int | None = None,
    passes: int = 1,
) -> RowLoss:
    """Return Σ_k weight_k · Σ_r scale_r · value_kr, computed a tile of rows at a time.

    The gradients of hidden states, head weight and bias are computed in the forward, tile by tile, while the logits
    are at hand; the backward only multiplies them by the gradient of the loss. This needs everything that multiplies a
    row to be known before: pass it as `scale`, such as world size / items of the accumulation window. What multiplies
    the loss afterwards (a gradient scaler) is free. Where nothing needs a gradient, none is computed.

    Memory beyond inputs and gradients: the budget for tiles, and a few blocks in the processor's cache. Where a model
    multiplies in another type than its weight has (autocast), a copy of the weight in that type.

    Args:
        student: The student's rows and head.
        terms: What is computed; a softmax that several terms read is computed once.
        teacher: The teacher's rows and head, or its logits; it gets no gradient. None where no term reads it.
        labels_R: The label of each row, −100 where it has none; None where no term reads them.
        scale: Multiplies every value: a number, a scalar tensor or one a row.
        shared_width: Ids that both heads have, in front; None: all, and the heads have to be equally wide.
        budget_bytes: For the tiles of logits; None: 64 MiB on a CPU, 512 MiB elsewhere.
        passes: P, how often the student has read the same rows: it has P · R rows, those of the first pass first. The
            value of a term is its mean over the passes, unless it compares them; the teacher's logits are computed
            once for all.

    Shapes: `labels_R` (R,), `scale` () or (R,).

    Raises:
        ValueError: Teacher or labels are missing where a term reads them, or shapes do not fit.
    """
    terms = list(terms)
    rows = _rows_of_a_pass(student, terms, passes)
    _check(student, rows, terms, teacher, labels_R, shared_width)
    job = Job(student, terms, teacher, labels_R, _as_scale(scale, student, rows), shared_width, budget_bytes, passes)
    inputs = (student.hidden_RH, student.weight_VH, student.bias_V)
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in inputs):
        return RowLoss(*_TiledLoss.apply(*inputs, job))
    with torch.no_grad():
        done = TileRun(job, (False, False, False)).done()
    return RowLoss(done.loss, done.values_KR)


class _TiledLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden_RH: Tensor, weight_VH: Tensor, bias_V: Tensor | None, job: Job
    ) -> tuple[Tensor, Tensor]:
        done = TileRun(job, (ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.needs_input_grad[2])).done()
        ctx.save_for_backward(done.factor, *done.gradients)
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in (hidden_RH, weight_VH, bias_V)]
        ctx.mark_non_differentiable(done.values_KR)
        return done.loss, done.values_KR

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        factor, *gradients = ctx.saved_tensors
        factor = upstream * factor
        # In place, because a head's gradient may be as large as all the rest; a second backward through the same graph
        # is refused by autograd's own check of saved tensors.
        pairs = zip(gradients, ctx.dtypes, strict=True)
        return (*(None if one is None else one.mul_(factor).to(dtype) for one, dtype in pairs), None)


def _as_scale(scale: Tensor | float, student: HeadRows, rows: int) -> Tensor:
    hidden_RH = student.hidden_RH
    found = torch.as_tensor(scale, device=hidden_RH.device).detach()
    if found.dim() and tuple(found.shape) != (rows,):
        raise ValueError(
            f"scale has shape {tuple(found.shape)}; expected a number, or one for each of the {rows} rows"
        )
    return found.to(at_least_float32(hidden_RH.dtype))


def _rows_of_a_pass(student: HeadRows, terms: list[RowTerm], passes: int) -> int:
    if passes < 1 or student.rows % passes:
        raise ValueError(f"{student.rows} rows of the student are not those of {passes} passes over the same rows")
    if passes == 1 and any(term.compares_passes for term in terms):
        raise ValueError("a term compares passes of the student, but there is one; pass `passes`")
    return student.rows // passes


def _check(
    student: HeadRows,
    rows: int,
    terms: list[RowTerm],
    teacher: HeadRows | LogitRows | None,
    labels_R: Tensor | None,
    shared_width: int | None,
) -> None:
    if not terms:
        raise ValueError("a loss needs one term or more, got none")
    if any(term.needs_labels for term in terms) and (labels_R is None or tuple(labels_R.shape) != (rows,)):
        shape = None if labels_R is None else tuple(labels_R.shape)
        raise ValueError(f"a term reads labels: expected labels_R of shape ({rows},), got {shape}")
    if teacher is None:
        if any(term.needs_teacher for term in terms):
            raise ValueError("a term compares with the teacher: pass `teacher`, its rows and head or its logits")
        return
    if teacher.rows != rows:
        raise ValueError(f"teacher and student must have the same rows, got {teacher.rows} and {rows}")
    widths = (student.width, teacher.width)
    if shared_width is None and widths[0] != widths[1]:
        raise ValueError(
            f"student and teacher give {widths[0]} and {widths[1]} logits; pass shared_width, the number of ids in "
            "front that mean the same token in both (compatibility.shared_width compares the tokenizers)"
        )
    if shared_width is not None and not 0 < shared_width <= min(widths):
        raise ValueError(f"shared_width must lie between 1 and {min(widths)}, got {shared_width}")
