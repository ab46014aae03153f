"""Head to divergence in tiles: losses of a vocabulary's size without logits of that size."""

from __future__ import annotations

from hf_distill.kernels.dense_loss import dense_loss
from hf_distill.kernels.head_rows import HeadRows, LogitRows
from hf_distill.kernels.row_terms import RowTerm, is_row_wise
from hf_distill.kernels.tiled_loss import RowLoss, tiled_loss

__all__ = ["HeadRows", "LogitRows", "RowLoss", "RowTerm", "dense_loss", "is_row_wise", "tiled_loss"]
