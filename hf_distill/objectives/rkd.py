"""Relational knowledge distillation: distances and angles between examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_distill.loss.reduction import Unit
from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.features import FeatureObjective, unit_vectors
from hf_distill.reading.signals import Signals, at_least_float32


@OBJECTIVES.register("rkd")
@dataclass(frozen=True, kw_only=True)
class RKD(FeatureObjective):
    """`distance`·D_i + `angle`·A_i of each example i, over the other examples of its micro-batch.

    D_i is the mean over j of huber(d_S[i, j] − d_T[i, j]), distances between the examples' states (mean over attended
    positions) divided by their mean over all pairs. A_i is the mean over pairs (j, k) of huber(cos_S − cos_T), the
    cosine of the angle at i. The Huber function is x²/2 up to 1 and |x| − 1/2 beyond. Widths may differ, and a scale,
    a rotation or a shift of the states changes nothing. It needs two examples (angles three) and B² · width memory.

    It compares the examples of a micro-batch with each other. Splitting a batch into smaller ones leaves pairs out:
    use the largest `per_device_train_batch_size` that fits rather than accumulation.

    Shapes: hidden states (B, T, S) and (B, T, H) -> (B,), one value an example; mean over pairs of layers.
    Source: Park et al. 2019 (arXiv 1904.05068), RKD-D and RKD-A; weights 25 and 50 as image libraries set them.
    Deviation: means are over distinct examples (an example's distance to itself says nothing), and states of texts
    are pooled by their mean.
    """

    papers: ClassVar[tuple[str, ...]] = ("1904.05068",)
    unit: ClassVar[Unit] = "example"

    distance: float = field(default=25.0, metadata={"help": "weight of distances, ≥ 0"})
    angle: float = field(default=50.0, metadata={"help": "weight of angles, ≥ 0"})

    def __post_init__(self) -> None:
        if min(self.distance, self.angle) < 0 or self.distance == self.angle == 0:
            raise ValueError(
                f"rkd: `distance` and `angle` must be ≥ 0 and not both 0, got {self.distance:g} and {self.angle:g}"
            )

    @property
    def partition_invariant(self) -> bool:
        """It is not: an example is compared with the others of its micro-batch."""
        return False

    def per_pair(self, signals: Signals) -> list[Tensor]:
        """Return each example's weighted differences of distances and angles."""
        return [self._compare(*states.pooled()) for states in signals.layer_states()]

    def _compare(self, student_BS: Tensor, teacher_BH: Tensor) -> Tensor:
        student, teacher = _differences(student_BS), _differences(teacher_BH)
        distances = F.smooth_l1_loss(_distances(student), _distances(teacher), reduction="none")
        angles = F.smooth_l1_loss(_angles(student), _angles(teacher), reduction="none")
        others = len(student_BS) - 1
        distance_B = distances.sum(-1) / max(others, 1)
        angle_B = angles.sum((-2, -1)) / max(others * (others - 1), 1)
        return self.distance * distance_B + self.angle * angle_B

    def formula(self) -> str:
        """Return the weights with the layers."""
        return self._text(f"RKD({self.distance:g}·distance, {self.angle:g}·angle")


def _differences(states_BH: Tensor) -> Tensor:
    """Return x_j − x_i. Shapes: (B, H) -> (B, B, H)."""
    states_BH = at_least_float32(states_BH)
    return states_BH.unsqueeze(0) - states_BH.unsqueeze(1)


def _distances(differences_BBH: Tensor) -> Tensor:
    """Return the distances divided by their mean over distinct examples. Shapes: (B, B, H) -> (B, B)."""
    distances_BB = torch.linalg.vector_norm(differences_BBH, dim=-1)
    mean = distances_BB.sum() / max(distances_BB.numel() - len(distances_BB), 1)
    return distances_BB / mean.clamp(min=torch.finfo(mean.dtype).tiny)


def _angles(differences_BBH: Tensor) -> Tensor:
    """Return the cosine of the angle at i between j and k, 0 unless all three differ. Shapes: -> (B, B, B)."""
    directions_BBH = unit_vectors(differences_BBH)
    same = torch.eye(len(directions_BBH), dtype=torch.bool, device=directions_BBH.device)
    # Where i is j or k a direction is 0 already; j = k has cosine 1 on both sides.
    return (directions_BBH @ directions_BBH.mT).masked_fill(same, 0.0)
