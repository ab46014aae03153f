"""Divergences of a block of rows with their gradients, worked out by hand and computed in given memory.

Each depends on the student's logits z through q = softmax(z). With u = ∂D/∂q its gradient is q ∘ (u − ⟨q, u⟩), and
whatever is constant in a row drops out.

Shape legend: r rows of a block, V vocabulary. p is the teacher, q the student.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hf_distill.objectives import (
    CrossEntropy,
    ForwardKL,
    GeneralizedJSD,
    Objective,
    ReverseKL,
    SkewKL,
    SkewReverseKL,
    SymmetricKL,
)
from hf_distill.reading.signals import IGNORE_INDEX


class Distribution(NamedTuple):
    """Log-probabilities and probabilities of a block. Shapes: (r, V) each."""

    log_rV: Tensor
    prob_rV: Tensor


class Block(NamedTuple):
    """What a divergence reads, and memory that it may write.

    Attributes:
        p: The teacher's distribution; None for objectives of the labels.
        q: The student's.
        labels_r: The labels, where there are any.
        work_p: Scratch memory; it may be `p.log_rV` itself, so write it last or read `p.log_rV` in the same operation.
        work_q: The same for `q.log_rV`.
        work: Scratch memory of its own.
        out: Where the gradient goes; it may be `q.prob_rV`, so write it last.
        gradient: Whether the gradient is wanted.
    """

    p: Distribution | None
    q: Distribution
    labels_r: Tensor | None
    work_p: Tensor | None
    work_q: Tensor
    work: Tensor
    out: Tensor
    gradient: bool


class Form(NamedTuple):
    """The values of a block, and the factor by which what is in `out` has to be multiplied to be their gradient."""

    values_r: Tensor
    factor: float = 1.0


def forward_kl(objective: Objective, block: Block) -> Form:
    """KL(p ‖ q); gradient q − p."""
    p, q, work_p = _teacher(block)
    values_r = torch.sub(p.log_rV, q.log_rV, out=work_p).mul_(p.prob_rV).sum(-1)
    if block.gradient:
        torch.sub(q.prob_rV, p.prob_rV, out=block.out)
    return Form(values_r)


def reverse_kl(objective: Objective, block: Block) -> Form:
    """KL(q ‖ p); u = log q − log p."""
    p, q, _ = _teacher(block)
    u = torch.sub(q.log_rV, p.log_rV, out=block.work_q)
    return Form(_through_softmax(u, q, block))


def symmetric_kl(objective: Objective, block: Block) -> Form:
    """Σ (q − p)(log q − log p); gradient q − p + that of the reverse half."""
    p, q, work_p = _teacher(block)
    u = torch.sub(q.log_rV, p.log_rV, out=block.work_q)
    gap = torch.sub(q.prob_rV, p.prob_rV, out=block.work)
    values_r = torch.mul(gap, u, out=work_p).sum(-1)
    if block.gradient:
        product = u.mul_(q.prob_rV)
        gap.add_(product)
        torch.addcmul(gap, q.prob_rV, product.sum(-1, keepdim=True), value=-1.0, out=block.out)
    return Form(values_r)


def generalized_jsd(objective: GeneralizedJSD, block: Block) -> Form:
    """β KL(p ‖ m) + (1 − β) KL(q ‖ m), m = βp + (1 − β)q; u = (1 − β) log(q / m), the rest of it is constant."""
    beta = objective.beta
    if beta in (0.0, 1.0):
        return reverse_kl(objective, block) if beta else forward_kl(objective, block)
    p, q, work_p = _teacher(block)
    log_m = _mixture(p, q, beta, block.work).log_()
    teacher_r = torch.sub(p.log_rV, log_m, out=work_p).mul_(p.prob_rV).sum(-1)
    u = torch.sub(q.log_rV, log_m, out=block.work_q)
    return Form(_through_softmax(u, q, block) * (1.0 - beta) + teacher_r * beta, 1.0 - beta)


def skew_kl(objective: SkewKL, block: Block) -> Form:
    """KL(p ‖ m), m = αp + (1 − α)q; u = −(1 − α) p / m."""
    alpha = objective.alpha
    if alpha == 0.0:
        return forward_kl(objective, block)
    p, q, work_p = _teacher(block)
    m = _mixture(p, q, alpha, block.work_q)
    log_m = torch.log(m, out=block.work)
    values_r = torch.sub(p.log_rV, log_m, out=work_p).mul_(p.prob_rV).sum(-1)
    if block.gradient:
        _through_softmax(torch.div(p.prob_rV, m, out=m), q, block)
    return Form(values_r, alpha - 1.0)


def skew_reverse_kl(objective: SkewReverseKL, block: Block) -> Form:
    """KL(q ‖ m), m = (1 − α)p + αq; u = log(q / m) − α q / m, or its first part where the mixture is held constant."""
    alpha = objective.alpha
    if alpha == 0.0:
        return reverse_kl(objective, block)
    p, q, work_p = _teacher(block)
    m = _mixture(p, q, 1.0 - alpha, work_p)
    u = torch.sub(q.log_rV, torch.log(m, out=block.work), out=block.work_q)
    if objective.detach_mixture:
        return Form(_through_softmax(u, q, block))
    values_r = torch.mul(u, q.prob_rV, out=block.work).sum(-1)
    if block.gradient:
        u.sub_(torch.div(q.prob_rV, m, out=m), alpha=alpha)
        _through_softmax(u, q, block)
    return Form(values_r)


def cross_entropy(objective: CrossEntropy, block: Block) -> Form:
    """−log q(label), smoothed; gradient q − smoothed label. A row labelled −100 gives 0 and no gradient."""
    labels_r = block.labels_r
    assert labels_r is not None, "the caller has checked for labels"
    log_q, smoothing = block.q.log_rV, objective.label_smoothing
    counted_r1 = (labels_r != IGNORE_INDEX)[:, None].to(log_q.dtype)
    labels_r1 = labels_r.clamp(min=0)[:, None]
    values_r1 = log_q.gather(1, labels_r1).mul_(smoothing - 1.0)
    if smoothing:
        values_r1.sub_(log_q.mean(-1, keepdim=True), alpha=smoothing)
    if block.gradient:
        torch.mul(block.q.prob_rV, counted_r1, out=block.out)
        if smoothing:
            block.out.sub_(counted_r1, alpha=smoothing / log_q.shape[1])
        block.out.scatter_add_(1, labels_r1, counted_r1 * (smoothing - 1.0))
    return Form((values_r1 * counted_r1)[:, 0])


def _teacher(block: Block) -> tuple[Distribution, Distribution, Tensor]:
    assert block.p is not None and block.work_p is not None, "the caller has checked for a teacher"
    return block.p, block.q, block.work_p


def _mixture(p: Distribution, q: Distribution, weight: float, out: Tensor) -> Tensor:
    """Write weight · p + (1 − weight) · q, kept above 0 where both have underflowed."""
    return torch.lerp(q.prob_rV, p.prob_rV, weight, out=out).add_(torch.finfo(out.dtype).tiny)


def _through_softmax(u: Tensor, q: Distribution, block: Block) -> Tensor:
    """Return ⟨q, u⟩ and write q ∘ (u − ⟨q, u⟩), where wanted; `u` is overwritten. Shapes: u (r, V) -> (r,)."""
    product = u.mul_(q.prob_rV)
    sum_r1 = product.sum(-1, keepdim=True)
    if block.gradient:
        torch.addcmul(product, q.prob_rV, sum_r1, value=-1.0, out=block.out)
    return sum_r1[:, 0]


CLOSED_FORMS: dict[type[Objective], Callable[[Any, Block], Form]] = {
    CrossEntropy: cross_entropy,
    ForwardKL: forward_kl,
    ReverseKL: reverse_kl,
    SymmetricKL: symmetric_kl,
    GeneralizedJSD: generalized_jsd,
    SkewKL: skew_kl,
    SkewReverseKL: skew_reverse_kl,
}
"""Objectives whose gradient is written out here; another one's is taken by autograd, a block at a time."""
