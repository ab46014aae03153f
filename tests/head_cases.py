"""Heads in front of rows, and losses on them, that tests of the kernels share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hf_distill.kernels import HeadRows, LogitRows, RowLoss, RowTerm
from hf_distill.objectives import (
    CrossEntropy,
    DecoupledKD,
    ForwardKL,
    GeneralizedJSD,
    LogitMSE,
    Objective,
    ReverseKL,
    SkewKL,
    SkewReverseKL,
    SymmetricKL,
    TotalVariation,
)

CLOSED: tuple[Objective, ...] = (
    ForwardKL(),
    ForwardKL(temperature_on="both"),
    ReverseKL(),
    ReverseKL(temperature_on="both"),
    SymmetricKL(),
    GeneralizedJSD(beta=0.0),
    GeneralizedJSD(beta=0.3),
    GeneralizedJSD(beta=1.0),
    GeneralizedJSD(temperature_on="both"),
    SkewKL(alpha=0.2),
    SkewKL(alpha=0.0),
    SkewReverseKL(alpha=0.2),
    SkewReverseKL(alpha=0.0),
    SkewReverseKL(alpha=0.2, detach_mixture=True),
    CrossEntropy(),
    CrossEntropy(label_smoothing=0.1),
)
"""Objectives whose gradient is written out, in all their shapes."""

OPEN: tuple[Objective, ...] = (TotalVariation(), DecoupledKD(), LogitMSE())
"""Some whose gradient autograd takes, block by block."""

Compute = Callable[..., RowLoss]


class Case(NamedTuple):
    """What a loss is computed from; `leaves` are the student's hidden states, weight and bias."""

    student: HeadRows
    teacher: HeadRows | LogitRows
    labels_R: Tensor
    scale: Tensor
    shared_width: int | None
    leaves: tuple[Tensor, ...]

    def loss(self, compute: Compute, terms: Sequence[RowTerm], **more: int) -> RowLoss:
        """Compute the loss in one way or the other."""
        return compute(
            self.student,
            terms,
            teacher=self.teacher,
            labels_R=self.labels_R,
            scale=self.scale,
            shared_width=self.shared_width,
            **more,
        )

    def everything(self, compute: Compute, terms: Sequence[RowTerm], **more: int) -> list[Tensor]:
        """Return loss, values and the gradients of what needs one."""
        made = self.loss(compute, terms, **more)
        leaves = [leaf for leaf in self.leaves if leaf.requires_grad]
        return [made.loss.detach(), made.values_KR, *torch.autograd.grad(made.loss, leaves)]


def head_case(
    rows: int = 7,
    vocabulary: int = 23,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    teacher_vocabulary: int | None = None,
    shared_width: int | None = None,
    bias: bool = True,
    softcap: float | None = None,
    scale: float = 1.0,
    given_logits: bool = False,
    frozen: Sequence[int] = (),
) -> Case:
    """Make a student of width 5 and a teacher of width 6; `frozen` lists the leaves that need no gradient."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, size: float = 1.0) -> Tensor:
        return (size * torch.randn(*shape, generator=generator, dtype=torch.float64)).to(dtype)

    leaves = [normal(rows, 5), normal(vocabulary, 5), normal(vocabulary)]
    for index, leaf in enumerate(leaves):
        leaf.requires_grad_(index not in frozen)
    if not bias:
        leaves.pop()
    student = HeadRows(
        hidden_RH=leaves[0],
        weight_VH=leaves[1],
        bias_V=leaves[2] if bias else None,
        scale=scale,
        softcap=softcap,
    )
    teacher_head = HeadRows(hidden_RH=normal(rows, 6), weight_VH=normal(teacher_vocabulary or vocabulary, 6, size=0.7))
    teacher: HeadRows | LogitRows = LogitRows.of(teacher_head.logits()) if given_logits else teacher_head
    known = min(shared_width or vocabulary, vocabulary)
    labels_R = torch.randint(known, (rows,), generator=generator)
    row_scale = torch.rand(rows, generator=generator, dtype=torch.float64).to(dtype)
    return Case(student, teacher, labels_R, row_scale, shared_width, tuple(leaves))


def distance(found: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest expected number."""
    assert found.shape == expected.shape
    if expected.numel() == 0:
        return 0.0
    found, expected = found.double(), expected.double()
    assert torch.isfinite(found).all()
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def assert_same(found: Sequence[Tensor], expected: Sequence[Tensor], *, within: float) -> None:
    """Check that tensors agree one by one."""
    distances = [distance(one, other) for one, other in zip(found, expected, strict=True)]
    assert max(distances) <= within, distances


class Watch(TorchDispatchMode):
    """Records the number of elements of the largest tensor that any operation returns, and of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0
        self.products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.products += func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_)
        for one in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(one, Tensor):
                self.elements = max(self.elements, one.untyped_storage().nbytes() // one.element_size())
        return result
