"""The metrics of tasks with one answer a text: classes, or a number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike
from transformers import EvalPrediction

from hf_distill.metrics.numbers import accuracy
from hf_distill.metrics.numbers_classes import f1, matthews_correlation
from hf_distill.metrics.numbers_correlation import pearson, spearman

Metric = Callable[[ArrayLike, ArrayLike], float]


def of_classes() -> Mapping[str, Metric]:
    """Return the metrics of class numbers by name."""
    return {
        "accuracy": accuracy,
        "f1": f1,
        "f1_macro": partial(f1, average="macro"),
        "matthews_correlation": matthews_correlation,
    }


def of_numbers() -> Mapping[str, Metric]:
    """Return the metrics of numbers by name."""
    return {"pearson": pearson, "spearman": spearman}


@dataclass(frozen=True)
class SentenceMetrics:
    """The Trainer's `compute_metrics` for one answer a text.

    Attributes:
        names: Metrics of classes (of the largest logit, of equal ones the first), or of numbers.
    """

    names: tuple[str, ...]

    def __call__(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return each metric.

        Shapes: predictions (N, classes) or (N, 1), labels (N,).
        """
        outputs = prediction.predictions
        outputs = np.asarray(outputs[0] if isinstance(outputs, tuple) else outputs)
        labels = np.asarray(prediction.label_ids)
        numbers, classes = of_numbers(), of_classes()
        if self.names[0] in numbers:
            return {name: numbers[name](outputs.reshape(len(labels)), labels) for name in self.names}
        return {name: classes[name](outputs.argmax(-1), labels) for name in self.names}
