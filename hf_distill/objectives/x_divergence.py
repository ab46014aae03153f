"""Disagreement between the student's own passes: intra-distillation (Xu, Koehn and Murray 2022, arXiv 2205.11416)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hf_distill.loss.reduction import Unit
from hf_distill.objectives.base import CLASS_HEADS, OBJECTIVES, REGRESSION_HEADS, Objective
from hf_distill.reading.signals import Head, Signals, at_least_float32


@OBJECTIVES.register("x_divergence")
@dataclass(frozen=True, kw_only=True)
class XDivergence(Objective):
    """X = (1/K) Σ_k [KL(p_k ‖ p̄) + KL(p̄ ‖ p_k)] over the student's K passes, p̄ their mean; in nats.

    Computed as (1/K) Σ_k ⟨p_k − p̄, log p_k⟩, which is the same because Σ_k (p_k − p̄) = 0, and never needs log p̄. The
    gradient flows through all passes and through the mean. For K = 2 it is a quarter of Jeffreys' divergence, half of
    R-Drop's term.

    A class that all passes mask with −inf adds nothing.

    Shapes: student logits of all passes (K, R, V) -> (R,).
    Source: arXiv 2205.11416. Deviation: mean over rows; the released GLUE code sums (`x_divergence_sum`).
    """

    heads: ClassVar[frozenset[Head]] = CLASS_HEADS
    needs: ClassVar[frozenset[str]] = frozenset({"student.passes"})

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the divergence of each row."""
        log_p_KRV = F.log_softmax(at_least_float32(signals.all_passes()), dim=-1)
        p_KRV = log_p_KRV.exp()
        # Filled before the product: behind it, the gradient would be 0 · −inf where a model masks a class.
        finite_KRV = log_p_KRV.masked_fill(log_p_KRV.isneginf(), 0.0)
        return ((p_KRV - p_KRV.mean(0)) * finite_KRV).sum(-1).mean(0)

    def formula(self) -> str:
        """Return the name."""
        return "X(passes)"


@OBJECTIVES.register("x_divergence_sum")
@dataclass(frozen=True, kw_only=True)
class XDivergenceSum(XDivergence):
    """The X-divergence summed over a micro-batch, as the released GLUE and XTREME code does, to reproduce its weights.

    Its size relative to the task's loss grows with the micro-batch, so that accumulation changes the update: use
    `x_divergence` for anything but a reproduction. Deviation: rows without a label are left out; the released XTREME
    code sums over padding too.

    Shapes: student logits of all passes (K, R, V) -> (1,), one value a micro-batch.
    """

    unit: ClassVar[Unit] = "batch"

    @property
    def partition_invariant(self) -> bool:
        """It is not: with more micro-batches each one's sum is smaller."""
        return False

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the sum over the rows of the micro-batch."""
        return XDivergence.values(self, signals, temperature=temperature).sum().reshape(1)

    def formula(self) -> str:
        """Return the name."""
        return "ΣX(passes)"


@OBJECTIVES.register("pass_variance")
@dataclass(frozen=True, kw_only=True)
class PassVariance(Objective):
    """(1/K) Σ_k (y_k − ȳ)² over the passes of a regression student, in the labels' unit squared.

    Shapes: student predictions of all passes (K, R, outputs) -> (R,).
    Source: arXiv 2205.11416, as released for STS-B.
    """

    heads: ClassVar[frozenset[Head]] = REGRESSION_HEADS
    needs: ClassVar[frozenset[str]] = frozenset({"student.passes"})

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the variance over passes of each example."""
        predictions_KRO = at_least_float32(signals.all_passes())
        return (predictions_KRO - predictions_KRO.mean(0)).square().mean(0).mean(-1)

    def formula(self) -> str:
        """Return the name."""
        return "Var(passes)"
