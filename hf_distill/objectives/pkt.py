"""Probabilistic knowledge transfer between layers, as in the modelling of information flow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hf_distill.loss.reduction import Unit
from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.features import FeatureObjective, unit_vectors
from hf_distill.reading.signals import Signals, at_least_float32

SMALLEST_SIMILARITY = 1e-6
"""Opposite states have cosine similarity 0, and its logarithm would be infinite."""


@OBJECTIVES.register("pkt")
@dataclass(frozen=True, kw_only=True)
class PKT(FeatureObjective):
    """Divergence between P_i and Q_i of each example i: how likely teacher and student pick another one as similar.

    P_i[j] = K_ij / Σ_{k≠i} K_ik over the other examples of the micro-batch, from the teacher's states (mean over
    attended positions), Q_i from the student's. Kernels: `cosine` (1 + cos)/2, `student_t` 1/(1 + distance), or
    `both`: the sum of the two divergences. `jeffreys` is Σ_j (P − Q)(log P − log Q), `kl` is KL(P_i ‖ Q_i); in nats.
    Widths may differ; rotations change nothing, nor scales with the cosine kernel.

    For the flow of information through the layers give each pair of layers a term of its own: the last one with
    weight 1, the others with `{name: geometric, start: 100, ratio: 0.7, epochs: 50}`, which makes the student form
    its intermediate layers early and leaves it free later.

    It compares the examples of a micro-batch with each other. Splitting a batch into smaller ones leaves pairs out:
    use the largest `per_device_train_batch_size` that fits rather than accumulation.

    Shapes: hidden states (B, T, S) and (B, T, H) -> (B,), one value an example; mean over pairs of layers.
    Source: Passalis et al. 2020 (arXiv 2005.00727), PKT from Passalis and Tefas 2018 (arXiv 1803.10837). Deviation:
    an example is not similar to itself (the diagonal dominates the released code's divergence), and the value is the
    mean over examples of a sum over the others, where the released code takes the mean over all B² entries: ours is
    about B times theirs.
    """

    papers: ClassVar[tuple[str, ...]] = ("1803.10837", "2005.00727")
    unit: ClassVar[Unit] = "example"

    kernels: Literal["both", "cosine", "student_t"] = field(
        default="both", metadata={"help": "similarity of two examples"}
    )
    divergence: Literal["jeffreys", "kl"] = field(
        default="jeffreys", metadata={"help": "between the teacher's and the student's probabilities"}
    )

    @property
    def partition_invariant(self) -> bool:
        """It is not: an example is compared with the others of its micro-batch."""
        return False

    def per_pair(self, signals: Signals) -> list[Tensor]:
        """Return each example's divergence, summed over the kernels."""
        names = ("cosine", "student_t") if self.kernels == "both" else (self.kernels,)
        return [
            torch.stack([self._compare(name, *states.pooled()) for name in names]).sum(0)
            for states in signals.layer_states()
        ]

    def _compare(self, kernel: str, student_BS: Tensor, teacher_BH: Tensor) -> Tensor:
        similarity = _cosine if kernel == "cosine" else _student_t
        (p_BB, log_p_BB), (q_BB, log_q_BB) = (_probabilities(similarity(side)) for side in (teacher_BH, student_BS))
        weight_BB = p_BB - q_BB if self.divergence == "jeffreys" else p_BB
        return (weight_BB * (log_p_BB - log_q_BB)).sum(-1)

    def formula(self) -> str:
        """Return the kernels with the layers."""
        return self._text(f"PKT({self.kernels}")


def _probabilities(similarities_BB: Tensor) -> tuple[Tensor, Tensor]:
    """Return P_i[j] and its logarithm, both 0 at j = i. Shapes: (B, B) -> (B, B), (B, B)."""
    own = torch.eye(len(similarities_BB), dtype=torch.bool, device=similarities_BB.device)
    others_BB = similarities_BB.clamp(min=SMALLEST_SIMILARITY).masked_fill(own, 0.0)
    p_BB = others_BB / others_BB.sum(-1, keepdim=True).clamp(min=SMALLEST_SIMILARITY)
    return p_BB, p_BB.masked_fill(own, 1.0).log()


def _cosine(states_BH: Tensor) -> Tensor:
    directions_BH = unit_vectors(states_BH)
    return (directions_BH @ directions_BH.T + 1.0) / 2.0


def _student_t(states_BH: Tensor) -> Tensor:
    states_BH = at_least_float32(states_BH)
    distances_BB = torch.linalg.vector_norm(states_BH.unsqueeze(0) - states_BH.unsqueeze(1), dim=-1)
    return 1.0 / (1.0 + distances_BB)
