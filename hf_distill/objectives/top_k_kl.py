"""Forward Kullback-Leibler divergence over the teacher's top-k outcomes and one for the rest."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import TemperedLogits, TemperedObjective, kl_divergence, log_sum_exp
from hf_distill.reading.signals import Signals


@OBJECTIVES.register("top_k_kl")
@dataclass(frozen=True, kw_only=True)
class TopKKL(TemperedObjective):
    """KL(teacher ‖ student) over the teacher's k likeliest outcomes and one more, "anything else", in nats.

    Σ_{v in top k} p_v (log p_v − log q_v) + p_rest (log p_rest − log q_rest), with the rest's mass summed up. It is a
    divergence: ≥ 0, 0 only where all k + 1 agree. It grows with k up to the dense `forward_kl`, which it equals at
    k = V. Use it to see what stored top-k targets can teach, or to leave out a teacher's noisy tail; within the rest
    the student is free. From live logits it needs as much memory as the dense divergence.

    The tail outcome is not optional. Without it the sum is no divergence: the forward sum turns negative when the
    student puts more mass on the top k than the teacher. For the reverse direction it is worse, and there is no
    top-k reverse KL here for that reason: Σ q_v (log q_v − log p_v) over a top-k is smallest when the student moves
    its mass *out* of it, and training collapses to that (seen in verl's on-policy distillation, pull request 5041).

    Temperature: `temperature_on` as for `forward_kl` (default `teacher`), applied before the top k are taken. The
    arg-max limit is that of `forward_kl`.

    Shapes: student and teacher logits (R, V) -> (R,). Equal logits at the k-th place are cut as torch.topk cuts them.
    Raises: ValueError for k < 1.
    Source: the coarse-grained KL of stored teacher targets, as in trl's and verl's top-k distillation with a tail
        bucket. The default k = 64 is our instantiation: no paper in this library fixes one.
    """

    k: int = field(default=64, metadata={"help": "how many of the teacher's likeliest outcomes are told apart"})

    def __post_init__(self) -> None:
        if self.k < 1:
            raise ValueError(f"k must be at least 1, got {self.k}")

    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return the divergence of each row."""
        top_RK = teacher.raw_RV.topk(min(self.k, teacher.raw_RV.shape[-1]), dim=-1, sorted=False).indices
        return kl_divergence(_log_outcomes(teacher.logits(), top_RK), _log_outcomes(student.logits(), top_RK))

    def notation(self, teacher: str, student: str) -> str:
        """Return the divergence as text."""
        return f"KL_top{self.k}({teacher} ‖ {student})"


def _log_outcomes(logits_RV: Tensor, top_RK: Tensor) -> Tensor:
    """Return the log-probabilities of the chosen outcomes and of the rest, where there is one.

    Shapes: (R, V), (R, K) -> (R, K + 1), or (R, K) where K = V.
    """
    outcomes = logits_RV.gather(-1, top_RK)
    if top_RK.shape[-1] < logits_RV.shape[-1]:
        # Summed up, not 1 − the chosen mass, which is noise or 0 once the top k hold nearly everything.
        rest_R1 = log_sum_exp(logits_RV.scatter(-1, top_RK, -math.inf))
        outcomes = torch.cat([outcomes, rest_R1], dim=-1)
    return F.log_softmax(outcomes, dim=-1)
