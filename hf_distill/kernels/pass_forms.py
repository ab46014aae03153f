"""The disagreement of a student's own passes on a block of rows, with its gradient, worked out by hand.

Shape legend: K passes, r rows of a block, V vocabulary. p_k is what pass k says, p̄ the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hf_distill.kernels.closed_forms import Distribution, Form
from hf_distill.kernels.scratch import Scratch
from hf_distill.objectives import Objective, XDivergence


class PassBlock(NamedTuple):
    """What a comparison of passes reads, and memory that it may write.

    Attributes:
        passes: The distribution of each pass; they are only read.
        scratch: Gives further memory.
        outs: Where the gradient of each pass goes.
        gradient: Whether it is wanted.
    """

    passes: Sequence[Distribution]
    scratch: Scratch
    outs: Sequence[Tensor]
    gradient: bool


def x_divergence(objective: XDivergence, block: PassBlock) -> Form:
    """(1/K) Σ_k [KL(p_k ‖ p̄) + KL(p̄ ‖ p_k)] = (1/K) Σ_k ⟨p_k, d_k⟩ with d_k = log p_k − mean_j log p_j.

    The gradient of K times this with respect to the logits of pass k is p_k ∘ (d_k + 1 − ⟨p_k, d_k⟩) − p̄.
    """
    count = len(block.passes)
    shape = block.passes[0].log_rV.shape
    mean_log, mean, work = (block.scratch.take(*shape) for _ in range(3))
    _mean([one.log_rV for one in block.passes], mean_log)
    if block.gradient:
        _mean([one.prob_rV for one in block.passes], mean)
    total_r1 = mean_log.new_zeros(shape[0], 1)
    for one, out in zip(block.passes, block.outs, strict=True):
        product = torch.sub(one.log_rV, mean_log, out=work).mul_(one.prob_rV)
        sum_r1 = product.sum(-1, keepdim=True)
        total_r1 += sum_r1
        if block.gradient:
            torch.addcmul(product, one.prob_rV, 1.0 - sum_r1, out=out).sub_(mean)
    return Form(total_r1[:, 0] / count, 1.0 / count)


def _mean(tensors: Sequence[Tensor], out: Tensor) -> None:
    torch.add(tensors[0], tensors[1], out=out)
    for one in tensors[2:]:
        out.add_(one)
    out.div_(len(tensors))


PASS_FORMS: dict[type[Objective], Callable[[Any, PassBlock], Form]] = {XDivergence: x_divergence}
"""Objectives that compare the passes, a row at a time."""
