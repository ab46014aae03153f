"""Forward Kullback-Leibler divergence KL(teacher ‖ student)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import ARGMAX_BELOW, TemperedLogits, TemperedObjective, kl_divergence
from hf_distill.reading.signals import Signals, at_least_float32


@OBJECTIVES.register("forward_kl")
@dataclass(frozen=True, kw_only=True)
class ForwardKL(TemperedObjective):
    """KL(teacher ‖ student) over the vocabulary or the classes, in nats: mass-covering, 0 when the student agrees.

    Two conventions of temperature τ:

    * `temperature_on: teacher` (default): p = softmax(z_T / τ), q = softmax(z_S), no factor. τ → 0 is the teacher's
      arg-max, and the value is then the cross-entropy with it. This is what progressive distillation uses.
    * `temperature_on: both`: p = softmax(z_T / τ), q = softmax(z_S / τ), times τ² so that the gradient keeps its size
      (Hinton et al., 2015). τ → 0 has no useful limit there and is refused.

    It is the divergence itself: a cross-entropy with the teacher's probabilities (called "forward KL" elsewhere) is
    larger by the teacher's entropy and has the same gradient.

    Shapes: student and teacher logits (R, V) -> (R,).
    Raises: ValueError where `both` meets a temperature below 1e-3.
    Source: Hinton et al. 2015 (arXiv 1503.02531); Panigrahi et al. 2024 (arXiv 2410.05464).
    """

    papers: ClassVar[tuple[str, ...]] = ("1503.02531",)

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return the divergence of each row."""
        if temperature < ARGMAX_BELOW and self.temperature_on == "teacher":
            # The same number as from the arg-max's probabilities, without writing them out.
            student_RV, teacher_RV = signals.pair()
            return F.cross_entropy(at_least_float32(student_RV), teacher_RV.argmax(-1), reduction="none")
        return super().values(signals, temperature=temperature)

    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return KL(p ‖ q) of each row."""
        return kl_divergence(teacher.log_probabilities(), student.log_probabilities())

    def notation(self, teacher: str, student: str) -> str:
        """Return the divergence as text."""
        return f"KL({teacher} ‖ {student})"
