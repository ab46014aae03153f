"""Metrics of classes from the table of right and predicted ones: Matthews' correlation and F1.

Shape legend: N examples, C classes.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

Average = Literal["binary", "macro", "micro", "weighted"]


def matthews_correlation(predictions: ArrayLike, references: ArrayLike) -> float:
    """Return Matthews' correlation of classes, Gorodkin's form where there are more than two; 0 for a constant side.

    Between -1 and 1, 0 for whatever does not depend on the reference. Not comparable between sets of other class
    frequencies.

    Shapes: (N,), (N,).

    Raises:
        ValueError: No entries, or different shapes.
    """
    table_CC = _confusions(predictions, references)
    right_C, predicted_C = table_CC.sum(1), table_CC.sum(0)
    # Python's integers: products of counts of a few 100,000 examples leave the range of int64's square roots.
    total, correct = int(table_CC.sum()), int(np.trace(table_CC))
    covariance = correct * total - int(right_C @ predicted_C)
    spreads = (total**2 - int(predicted_C @ predicted_C), total**2 - int(right_C @ right_C))
    return covariance / math.sqrt(spreads[0] * spreads[1]) if all(spreads) else 0.0


def f1(predictions: ArrayLike, references: ArrayLike, *, average: Average = "binary", positive: int = 1) -> float:
    """Return the harmonic mean of precision and recall; 0 where a class is neither predicted nor there.

    Args:
        predictions: Classes.
        references: Classes.
        average: "binary": of the class `positive`; over the classes that occur on either side "macro": the mean,
            "weighted": weighted by their references; "micro": of all decisions together, which is the accuracy.
        positive: The class that "binary" is about.

    Shapes: (N,), (N,).

    Raises:
        ValueError: No entries, different shapes, an unknown average, or "binary" and more than two classes.
    """
    if average not in get_args(Average):
        raise ValueError(f"average: expected one of {', '.join(get_args(Average))}, got {average!r}")
    classes_C = _classes(predictions, references)
    table_CC = _confusions(predictions, references)
    hits_C, right_C, predicted_C = np.diag(table_CC), table_CC.sum(1), table_CC.sum(0)
    if average == "binary":
        if len(set(classes_C) | {positive}) > 2:
            raise ValueError(
                f"average: 'binary' is for two classes, but there are {len(classes_C)}; use 'macro', 'micro' or "
                "'weighted'"
            )
        place = classes_C == positive
        return _f1(int(hits_C[place].sum()), int(right_C[place].sum()), int(predicted_C[place].sum()))
    if average == "micro":
        return _f1(int(hits_C.sum()), int(right_C.sum()), int(predicted_C.sum()))
    values = [_f1(*map(int, counts)) for counts in zip(hits_C, right_C, predicted_C, strict=True)]
    return float(np.average(values, weights=right_C if average == "weighted" else None))


def _f1(hits: int, right: int, predicted: int) -> float:
    return 2 * hits / (right + predicted) if right + predicted else 0.0


def _classes(predictions: ArrayLike, references: ArrayLike) -> NDArray[np.int64]:
    predictions, references = np.asarray(predictions), np.asarray(references)
    if predictions.shape != references.shape or predictions.ndim != 1:
        raise ValueError(f"expected one prediction for each reference, got {predictions.shape} and {references.shape}")
    if not references.size:
        raise ValueError("a metric of 0 examples is not defined: the evaluation set is empty")
    return np.unique(np.concatenate([predictions, references]))


def _confusions(predictions: ArrayLike, references: ArrayLike) -> NDArray[np.int64]:
    """Return how often each class (row) was taken for each (column). Shapes: -> (C, C)."""
    classes_C = _classes(predictions, references)
    rows, columns = np.searchsorted(classes_C, references), np.searchsorted(classes_C, predictions)
    flat = np.bincount(rows * len(classes_C) + columns, minlength=len(classes_C) ** 2)
    return flat.reshape(len(classes_C), len(classes_C))
