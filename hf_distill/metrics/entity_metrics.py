"""The metrics of tagged words, from the tag of each labelled position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from transformers import EvalPrediction

from hf_distill.metrics.numbers_entities import entities
from hf_distill.reading.signals import IGNORE_INDEX


@dataclass(frozen=True)
class EntityMetrics:
    """The Trainer's `compute_metrics` for tags; predictions are what `best_tags` leaves.

    Attributes:
        names: Of the tags, in the order of their numbers.
    """

    names: tuple[str, ...]

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return precision, recall and F1 of entities, and the accuracy of tags, over labelled positions.

        Shapes: predictions (N, T), labels (N, T) with -100 where no word begins.
        """
        predicted, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
        counted = labels != IGNORE_INDEX
        sides = [
            [[self.names[tag] for tag in row[kept]] for row, kept in zip(values, counted, strict=True)]
            for values in (predicted, labels)
        ]
        return entities(sides[0], sides[1])


def best_tags(logits: Any, labels: Tensor) -> Tensor:
    """Return the tag of the largest logit: one number a position is gathered instead of one a tag.

    Shapes: (B, T, C) -> (B, T).
    """
    return (logits[0] if isinstance(logits, tuple) else logits).argmax(-1)
