"""Decoupled distillation: the label's share and the order of the other classes, weighted apart (DKD)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import TemperedLogits, TemperedObjective, kl_divergence, log_sum_exp
from hf_distill.reading.signals import Signals

WITHOUT_OTHERS = "the teacher's arg-max leaves no shares among the other classes"


class Decoupled(NamedTuple):
    """The two parts of KL(teacher ‖ student) = target + rest · others, each (R,).

    `target_R`: KL between the binary distributions label / not label. `others_R`: KL among the other classes,
    renormalised. `rest_R`: the teacher's mass outside the label, without gradient.
    """

    target_R: Tensor
    others_R: Tensor
    rest_R: Tensor


def decouple(teacher: TemperedLogits, student: TemperedLogits, labels_R: Tensor) -> Decoupled:
    """Return the parts of KL(teacher ‖ student) about the label and about the other classes.

    Where the teacher gives the label everything, down to logits of −inf, `others_R` is 0 and not 0/0.

    Shapes: logits (R, V) of both, (R,) -> (R,) each.
    """
    p_R2, log_p_others_RV = _split(teacher.logits(), labels_R)
    q_R2, log_q_others_RV = _split(student.logits(), labels_R)
    return Decoupled(kl_divergence(p_R2, q_R2), kl_divergence(log_p_others_RV, log_q_others_RV), p_R2[:, 1].exp())


def _split(logits_RV: Tensor, labels_R: Tensor) -> tuple[Tensor, Tensor]:
    """Return log (label, not label), (R, 2), and the log-probabilities of the other classes among themselves, (R, V).

    The rest is summed up, never taken as 1 − q(label): that is 0 or noise once the label is nearly certain.
    """
    labels_R1 = labels_R.unsqueeze(-1)
    others_RV = logits_RV.scatter(-1, labels_R1, -math.inf)
    rest_R1 = log_sum_exp(others_RV)
    return F.log_softmax(torch.cat([logits_RV.gather(-1, labels_R1), rest_R1], -1), dim=-1), others_RV - rest_R1


@OBJECTIVES.register("decoupled_kd")
@dataclass(frozen=True, kw_only=True)
class DecoupledKD(TemperedObjective):
    """α·TCKD + β·NCKD, in nats: what the teacher says about the label, and what about the other classes.

    With label y, TCKD = KL between (p_y, 1 − p_y) and (q_y, 1 − q_y), and NCKD = KL between the other classes'
    renormalised probabilities. Forward KL is TCKD + (1 − p_y)·NCKD: the surer the teacher, the less it says about the
    other classes. Decoupled, NCKD counts in full. Use it for classes with a confident teacher; for language models
    `uncertainty_split` decides by token. `coupled: true` restores the factor 1 − p_y, so that α = β = 1 is
    `forward_kl`.

    The names differ between papers: ATKD calls TCKD "TKD" and NCKD "DKD".

    Temperature: `temperature_on`, default `both` with the factor τ² as in the paper (τ = 4). It has no arg-max limit.
    The published recipe raises the weight linearly over 20 epochs: give the term a `weight` schedule.

    Shapes: student and teacher logits (R, V), labels (R,) -> (R,).
    Raises: ValueError for negative weights, without labels, and at a temperature below 1e-3.
    Source: Zhao et al. 2022 (arXiv 2203.08679); α = 1, β = 8 are its code's defaults. Deviation: the other classes are
        cut out with −inf, where that code subtracts 1000 from the label's logit.
    """

    papers: ClassVar[tuple[str, ...]] = ("2203.08679",)
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.logits", "labels"})

    alpha: float = field(default=1.0, metadata={"help": "weight of the label's share (TCKD)"})
    beta: float = field(default=8.0, metadata={"help": "weight of the other classes (NCKD)"})
    coupled: bool = field(default=False, metadata={"help": "multiply NCKD by the teacher's mass outside the label"})
    temperature_on: Literal["teacher", "both"] = field(
        default="both", metadata={"help": "whose logits the temperature divides"}
    )

    def __post_init__(self) -> None:
        if self.alpha < 0.0 or self.beta < 0.0:
            raise ValueError(f"alpha and beta are weights and must be ≥ 0, got {self.alpha:g}, {self.beta:g}")

    @property
    def argmax_refusal(self) -> str | None:
        """Nothing is left among the other classes."""
        return WITHOUT_OTHERS

    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return the weighted sum of the two parts of each row."""
        parts = decouple(teacher, student, signals.labelled()[1])
        others_R = parts.rest_R * parts.others_R if self.coupled else parts.others_R
        return self.alpha * parts.target_R + self.beta * others_R

    def notation(self, teacher: str, student: str) -> str:
        """Return the two parts with their weights as text."""
        others = "(1−p_y)·NCKD" if self.coupled else "NCKD"
        return f"({self.alpha:g}·TCKD + {self.beta:g}·{others})({teacher} ‖ {student})"
