"""The same loss with whole logits: the reference for the tiles, and the shorter way where the logits are small."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hf_distill.kernels.head_rows import HeadRows, LogitRows
from hf_distill.kernels.row_terms import RowTerm
from hf_distill.kernels.tiled_loss import RowLoss
from hf_distill.reading.signals import Signals


def dense_loss(
    student: HeadRows,
    terms: Sequence[RowTerm],
    *,
    teacher: HeadRows | LogitRows | None = None,
    labels_R: Tensor | None = None,
    scale: Tensor | float = 1.0,
    shared_width: int | None = None,
    passes: int = 1,
) -> RowLoss:
    """Return what `tiled_loss` returns, from logits (R, V), the objectives' own `values` and autograd.

    The arguments are those of `tiled_loss`.
    """
    teacher_RV = None
    if teacher is not None:
        with torch.no_grad():
            teacher_RV = teacher.logits()
    by_pass = student.logits().unflatten(0, (passes, student.rows // passes))
    seen = [
        Signals(
            student_logits=logits_RV,
            student_passes=by_pass,
            labels=labels_R,
            teacher_logits=teacher_RV,
            shared_width=shared_width,
        )
        for logits_RV in by_pass
    ]
    values = [
        torch.stack([term.objective.values(one, temperature=term.temperature) for one in _read(seen, term)]).mean(0)
        for term in terms
    ]
    parts = [term.weight * (value * scale).sum() for term, value in zip(terms, values, strict=True)]
    return RowLoss(torch.stack(parts).sum(), torch.stack([value.detach() for value in values]))


def _read(seen: list[Signals], term: RowTerm) -> list[Signals]:
    # What compares the passes is in every pass's signals; it is computed once.
    return seen[:1] if term.compares_passes else seen
