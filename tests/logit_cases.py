"""Logits to compare, and references for divergences with 40 digits, that tests of the logit objectives share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import hypothesis.strategies as st
import mpmath
import torch
from torch import Tensor

from hf_distill.objectives import Objective
from hf_distill.reading.signals import Signals

RELATIVE = 1e-6
"""What every objective must meet against a reference in float64."""

Probabilities = list[mpmath.mpf]


def logit_pair(rows: int = 4, classes: int = 7, *, seed: int = 0, scale: float = 2.0) -> tuple[Tensor, Tensor]:
    """(student, teacher) logits in float64."""
    generator = torch.Generator().manual_seed(seed)
    student, teacher = (scale * torch.randn(2, rows, classes, generator=generator, dtype=torch.float64)).unbind()
    return student, teacher


def labels_for(logits: Tensor, *, seed: int = 0) -> Tensor:
    """One class a row."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(logits.shape[-1], logits.shape[:1], generator=generator)


def values_of(
    objective: Objective, student: Tensor, teacher: Tensor, labels: Tensor | None = None, *, temperature: float = 1.0
) -> Tensor:
    """The objective's values for logits of both."""
    signals = Signals(student_logits=student, labels=labels, teacher_logits=teacher)
    return objective.values(signals, temperature=temperature)


def gradient_of(
    objective: Objective, student: Tensor, teacher: Tensor, labels: Tensor | None = None, *, temperature: float = 1.0
) -> Tensor:
    """The gradient of the sum of the values with respect to the student's logits."""
    leaf = student.detach().clone().requires_grad_()
    values_of(objective, leaf, teacher, labels, temperature=temperature).sum().backward()
    assert leaf.grad is not None
    return leaf.grad


def passes_gradcheck(objective: Objective, *, temperature: float = 1.0, seed: int = 0) -> bool:
    """Whether the gradient is that of the value, in float64 by finite differences."""
    student, teacher = logit_pair(3, 5, seed=seed)
    labels = labels_for(student)

    def compare(logits: Tensor) -> Tensor:
        return values_of(objective, logits, teacher, labels, temperature=temperature)

    return bool(torch.autograd.gradcheck(compare, (student.requires_grad_(),), atol=1e-7, rtol=1e-5))


def logits_of(probabilities: Sequence[float]) -> Tensor:
    """Logits (1, V) of given probabilities; 0 becomes −inf."""
    return torch.tensor([probabilities], dtype=torch.float64).log()


def softmax(logits: Tensor, temperature: float = 1.0) -> Probabilities:
    """Probabilities of one row with 40 digits."""
    with mpmath.workdps(40):
        scaled = [mpmath.mpf(logit) / mpmath.mpf(temperature) for logit in logits.tolist()]
        masses = [mpmath.exp(logit - max(scaled)) for logit in scaled]
        return [mass / mpmath.fsum(masses) for mass in masses]


def kl(p: Probabilities, q: Probabilities) -> mpmath.mpf:
    """Σ p log(p / q) with 40 digits."""
    with mpmath.workdps(40):
        return mpmath.fsum(a * mpmath.log(a / b) if b else mpmath.inf for a, b in zip(p, q, strict=True) if a)


def mixture(p: Probabilities, q: Probabilities, weight: float) -> Probabilities:
    """weight · p + (1 − weight) · q with 40 digits."""
    with mpmath.workdps(40):
        return [weight * a + (1 - mpmath.mpf(weight)) * b for a, b in zip(p, q, strict=True)]


def entropy(p: Sequence[float]) -> float:
    """−Σ p log p in nats."""
    return -math.fsum(a * math.log(a) for a in p if a)


def log_partition(logits: Tensor) -> Tensor:
    """log Σ exp of each row: KL(q ‖ p) is the Bregman divergence of this function."""
    return torch.logsumexp(logits, -1)


def logit_lists(classes: int, *, largest: float = 30.0) -> st.SearchStrategy[list[float]]:
    """Hypothesis: one row of logits."""
    return st.lists(st.floats(-largest, largest), min_size=classes, max_size=classes)


def row_of(logits: Sequence[float]) -> Tensor:
    """One row of logits (1, V) in float64."""
    return torch.tensor([logits], dtype=torch.float64)
