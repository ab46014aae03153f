"""Cross-entropy with the labels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from hf_distill.objectives.base import CLASS_HEADS, OBJECTIVES, Objective
from hf_distill.reading.signals import Head, Signals, at_least_float32


@OBJECTIVES.register("cross_entropy")
@dataclass(frozen=True, kw_only=True)
class CrossEntropy(Objective):
    """Cross-entropy of the student with the labels, in nats: −log q(label).

    Label smoothing ε mixes the label with the uniform distribution over the student's head, as in torch. The
    temperature does not apply: labels have none.

    Shapes: student logits (R, V), labels (R,) -> (R,).
    Source: the baseline every comparison shows.
    """

    heads: ClassVar[frozenset[Head]] = CLASS_HEADS
    needs: ClassVar[frozenset[str]] = frozenset({"labels"})

    label_smoothing: float = field(default=0.0, metadata={"help": "weight of the uniform distribution, in [0, 1)"})

    def __post_init__(self) -> None:
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {self.label_smoothing:g}")

    def check_head(self, head: Head, *, path: str) -> None:
        """Refuse a head without classes, and smoothing over positions of a text, some of which are padding."""
        super().check_head(head, path=path)
        if head == "question_answering" and self.label_smoothing:
            raise ValueError(
                f"{path}: label smoothing {self.label_smoothing:g} would spread an answer's label over all positions "
                "of the batch, padding too; set label_smoothing (label_smoothing_factor) to 0 for question_answering"
            )

    def values(self, signals: Signals, *, temperature: float) -> Tensor:
        """Return −log q(label) for each row."""
        logits_RV, labels_R = signals.labelled()
        return F.cross_entropy(
            at_least_float32(logits_RV), labels_R, reduction="none", label_smoothing=self.label_smoothing
        )

    def formula(self) -> str:
        """Return the name, with the smoothing where there is any."""
        return f"CE(labels, ε={self.label_smoothing:g})" if self.label_smoothing else "CE(labels)"
