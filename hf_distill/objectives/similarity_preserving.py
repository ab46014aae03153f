"""Squared error between the similarities of examples, as in similarity-preserving distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hf_distill.loss.reduction import Unit
from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.features import FeatureObjective, unit_vectors
from hf_distill.reading.signals import Signals, at_least_float32


@OBJECTIVES.register("similarity_preserving")
@dataclass(frozen=True, kw_only=True)
class SimilarityPreserving(FeatureObjective):
    """(1/B) Σ_j (G_T[i, j] − G_S[i, j])² of each example i, with G the rows of F·Fᵀ divided by their lengths.

    F are the examples' states (mean over attended positions), so that two inputs that excite the teacher alike should
    excite the student alike, in whatever width. The mean over examples is the paper's ‖G_T − G_S‖² / B². Values are
    of the order 1/B: weights of thousands are usual (3000 for images).

    It compares the examples of a micro-batch with each other. Splitting a batch into smaller ones leaves pairs out:
    use the largest `per_device_train_batch_size` that fits rather than accumulation.

    Shapes: hidden states (B, T, S) and (B, T, H) -> (B,), one value an example; mean over pairs of layers.
    Source: Tung and Mori 2019 (arXiv 1907.09682). Deviation: states of texts are pooled by their mean, where the
    paper flattens feature maps.
    """

    papers: ClassVar[tuple[str, ...]] = ("1907.09682",)
    unit: ClassVar[Unit] = "example"

    @property
    def partition_invariant(self) -> bool:
        """It is not: an example is compared with the others of its micro-batch."""
        return False

    def per_pair(self, signals: Signals) -> list[Tensor]:
        """Return each example's mean squared difference of similarities."""
        return [_compare(*states.pooled()) for states in signals.layer_states()]

    def formula(self) -> str:
        """Return the name with the layers."""
        return self._text("SP(hidden")


def _compare(student_BS: Tensor, teacher_BH: Tensor) -> Tensor:
    difference_BB = _similarities(teacher_BH) - _similarities(student_BS)
    return difference_BB.square().sum(-1) / max(len(difference_BB), 1)


def _similarities(states_BH: Tensor) -> Tensor:
    states_BH = at_least_float32(states_BH)
    return unit_vectors(states_BH @ states_BH.T)
