"""The linear layer of a head in tiles: rows of logits into memory that is used again, and its gradients.

Shape legend: R rows of a call, r rows of a tile, H width of the hidden states, V vocabulary, W ≤ V the part in use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hf_distill.kernels.head_rows import HeadRows

HALF_BOOST = 64.0
"""Keeps small gradients of the logits above the smallest float16, and a sum of them below the largest."""

LOWEST = 2.0**-6
"""Of the range of a type: stands in for −inf, and a sum of such numbers over some passes stays finite."""

CHUNK_BYTES = 16 * 2**20
"""Of a product in half precision that waits to be added in float32."""


def matmul_dtype(*tensors: Tensor) -> torch.dtype:
    """Return in which type the tensors are multiplied: autocast's where it is on, otherwise the widest of theirs."""
    widest = tensors[0].dtype
    for tensor in tensors[1:]:
        widest = torch.promote_types(widest, tensor.dtype)
    kind = tensors[0].device.type
    if torch.is_autocast_enabled(kind) and widest != torch.float64:
        return torch.get_autocast_dtype(kind)
    return widest


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which sums are kept."""
    return torch.promote_types(dtype, torch.float32)


class Projection:
    """A head's first W rows, ready to be multiplied: the autocast type is settled here, once for all tiles.

    A bias of −inf (a masked id) becomes a very low number: its probability is 0 all the same, and 0 · (−inf) cannot
    arise.
    """

    def __init__(self, head: HeadRows, width: int) -> None:
        self.dtype = matmul_dtype(head.hidden_RH, head.weight_VH)
        self.hidden_RH = head.hidden_RH.detach().to(self.dtype)
        self.weight_WH = head.weight_VH.detach()[:width].to(self.dtype)
        self.bias_W: Tensor | None = None
        if head.bias_V is not None:
            lowest = torch.finfo(self.dtype).min * LOWEST
            self.bias_W = head.bias_V.detach()[:width].to(self.dtype).clamp(min=lowest)
        self.scale = head.scale
        self.softcap = head.softcap

    def write(self, start: int, stop: int, out_rW: Tensor) -> None:
        """Write h Wᵀ + b of rows start to stop. Shapes: `out_rW` (stop − start, W), of `dtype`."""
        hidden_rH = self.hidden_RH[start:stop]
        if self.bias_W is None:
            torch.mm(hidden_rH, self.weight_WH.t(), out=out_rW)
        else:
            torch.addmm(self.bias_W, hidden_rH, self.weight_WH.t(), out=out_rW)

    def finish_(self, logits_rW: Tensor) -> None:
        """Apply scale and soft cap in place."""
        if self.softcap is not None:
            logits_rW.mul_(self.scale / self.softcap).tanh_().mul_(self.softcap)
        elif self.scale != 1.0:
            logits_rW.mul_(self.scale)

    def undo_softcap_(self, gradient_rW: Tensor, logits_rW: Tensor) -> None:
        """Turn the gradient of capped logits into that of the uncapped ones, in place; overwrites `logits_rW`."""
        if self.softcap is not None:
            logits_rW.div_(self.softcap).square_()
            gradient_rW.addcmul_(gradient_rW, logits_rW, value=-1.0)


class HeadGradients:
    """The gradients of hidden states, weight and bias, added up over tiles; what needs none is not computed.

    Everything is kept in float32 at least, whatever the parameters are in, and without the factors that the caller
    multiplies in at the end.

    Args:
        projection: The student's.
        head: What it is made of.
        needed: Which of hidden states, weight and bias need a gradient.
        row_scale_R: Weight of each row relative to the others, at most 1; None where all are equal.
    """

    def __init__(
        self, projection: Projection, head: HeadRows, needed: tuple[bool, bool, bool], row_scale_R: Tensor | None
    ) -> None:
        self._projection = projection
        self._row_scale_R = row_scale_R
        dtype = at_least_float32(projection.dtype)
        like = head.hidden_RH.detach()
        self.hidden_RH = like.new_empty(like.shape, dtype=dtype) if needed[0] else None
        self.weight_VH = like.new_empty(head.weight_VH.shape, dtype=dtype) if needed[1] else None
        self.bias_V = like.new_zeros(head.width, dtype=dtype) if needed[2] else None
        self.boost = HALF_BOOST if projection.dtype == torch.float16 else 1.0
        self._hidden_RH = projection.hidden_RH
        if self.weight_VH is not None:
            # The first product writes, the others add; where none writes, zeros are wanted.
            written = len(projection.weight_WH) if head.rows and dtype == projection.dtype else 0
            self.weight_VH[written:].zero_()
        if row_scale_R is not None and needed[1]:
            self._hidden_RH = (projection.hidden_RH * row_scale_R[:, None]).to(projection.dtype)

    def add(self, start: int, stop: int, gradient_rW: Tensor) -> None:
        """Add what the gradient of rows start to stop says. Shapes: (stop − start, W), of the projection's type."""
        self._add_hidden(start, stop, gradient_rW)
        self._add_weight(start, stop, gradient_rW)
        self._add_bias(start, stop, gradient_rW)

    def _add_hidden(self, start: int, stop: int, gradient_rW: Tensor) -> None:
        if self.hidden_RH is None:
            return
        out_rH, weight_WH = self.hidden_RH[start:stop], self._projection.weight_WH
        if out_rH.dtype == gradient_rW.dtype:
            torch.mm(gradient_rW, weight_WH, out=out_rH)
        else:
            out_rH.copy_(gradient_rW @ weight_WH)
        if self._row_scale_R is not None:
            out_rH.mul_(self._row_scale_R[start:stop, None])

    def _add_weight(self, start: int, stop: int, gradient_rW: Tensor) -> None:
        if self.weight_VH is None:
            return
        width, hidden_rH = gradient_rW.shape[1], self._hidden_RH[start:stop]
        sum_WH = self.weight_VH[:width]
        if sum_WH.dtype == gradient_rW.dtype:
            sum_WH.addmm_(gradient_rW.t(), hidden_rH, beta=1.0 if start else 0.0)
            return
        ids = max(1, CHUNK_BYTES // (hidden_rH.shape[1] * gradient_rW.element_size()))
        for first in range(0, width, ids):
            sum_WH[first : first + ids].add_(gradient_rW[:, first : first + ids].t() @ hidden_rH)

    def _add_bias(self, start: int, stop: int, gradient_rW: Tensor) -> None:
        if self.bias_V is None:
            return
        sum_W = self.bias_V[: gradient_rW.shape[1]]
        if self._row_scale_R is None:
            sum_W.add_(gradient_rW.sum(0, dtype=sum_W.dtype))
        else:
            sum_W.add_(gradient_rW.t() @ self._row_scale_R[start:stop].to(gradient_rW.dtype))

    def tensors(self) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Return the sums for hidden states, weight and bias."""
        return self.hidden_RH, self.weight_VH, self.bias_V
