"""Reverse Kullback-Leibler divergence KL(student ‖ teacher)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hf_distill.objectives.base import OBJECTIVES
from hf_distill.objectives.distributions import TemperedLogits, TemperedObjective, kl_divergence
from hf_distill.reading.signals import Signals


@OBJECTIVES.register("reverse_kl")
@dataclass(frozen=True, kw_only=True)
class ReverseKL(TemperedObjective):
    """KL(student ‖ teacher) = Σ q (log q − log p), in nats: mode-seeking, 0 when the student agrees.

    Use it where a small student should put its mass on what the teacher finds likely instead of covering all of it,
    above all on text that the student wrote itself. On a fixed data set, and for classes, `forward_kl` is the safer
    start: where the student has (nearly) no mass this divergence has (nearly) no gradient. It is infinite where the
    teacher's logit is −inf and the student's is not; `skew_reverse_kl` stays finite there.

    Temperature: `temperature_on` as for `forward_kl` (default `teacher`). It has no arg-max limit: every student with
    mass outside the teacher's first choice would be infinitely far away.

    Shapes: student and teacher logits (R, V) -> (R,).
    Raises: ValueError at a temperature below 1e-3.
    Source: MiniLLM's exact single-step term, Gu et al. 2024 (arXiv 2306.08543); β = 1 of GKD, Agarwal et al. 2024
        (arXiv 2306.13649). MiniLLM's sequence-level policy gradient is not part of it.
    """

    papers: ClassVar[tuple[str, ...]] = ("2306.08543",)

    @property
    def argmax_refusal(self) -> str | None:
        """It is infinite."""
        return "KL(student ‖ arg-max) is infinite"

    def compare(self, teacher: TemperedLogits, student: TemperedLogits, signals: Signals) -> Tensor:
        """Return KL(q ‖ p) of each row."""
        return kl_divergence(student.log_probabilities(), teacher.log_probabilities())

    def notation(self, teacher: str, student: str) -> str:
        """Return the divergence as text."""
        return f"KL({student} ‖ {teacher})"
