"""Cosine distance between the probabilities of teacher and student, as in R2KD."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor
from torch.linalg import vector_norm

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import TemperedLogits, TemperedObjective
from hf_distill.reading.signals import Signals


@OBJECTIVES.register("logit_cosine")
@dataclass(frozen=True, kw_only=True)
class LogitCosine(TemperedObjective):
    """1 − cos(p, q) over a row's classes: the direction of the probabilities, in [0, 1]; 0 when the student agrees.

    The *value* half of R2KD; `soft_rank_correlation` is its rank half. Use it for image or text classes, where it
    asks less than a KL: tiny probabilities hardly count. Over a vocabulary the likeliest token dominates the angle;
    there a KL says more, or take a temperature of 2 and more.

    Computed as ½‖p/‖p‖ − q/‖q‖‖², which is the same number and does not cancel near agreement.

    Temperature: `temperature_on`, default `both` with the factor τ² as in the paper (τ = 4). With `teacher` the
    arg-max limit is 1 − q(arg-max)/‖q‖.

    Shapes: student and teacher logits (R, V) -> (R,). Unit: none (a cosine).
    Raises: ValueError where `both` meets a temperature below 1e-3.
    Source: R2KD, Kim et al. 2023 (arXiv 2311.13934). Deviation: the paper adds the same distance between columns (one
        class over the batch). Its value belongs to a batch and changes with how the batch is split, and over a
        vocabulary nearly all columns are 0; it is left out. The paper's absolute value around the cosine does nothing
        to non-negative vectors and is left out too.
    """

    papers: ClassVar[tuple[str, ...]] = ("2311.13934",)

    temperature_on: Literal["teacher", "both"] = field(
        default="both", metadata={"help": "whose logits the temperature divides"}
    )

    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return the distance of each row."""
        apart_RV = _unit_length(student.probabilities()) - _unit_length(teacher.probabilities())
        return 0.5 * apart_RV.square().sum(-1)

    def notation(self, teacher: str, student: str) -> str:
        """Return the distance as text."""
        return f"(1−cos({teacher}, {student}))"


def _unit_length(probabilities_RV: Tensor) -> Tensor:
    return probabilities_RV / vector_norm(probabilities_RV, dim=-1, keepdim=True)
