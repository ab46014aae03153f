"""Correlations of numbers: Pearson's of the values, Spearman's of their ranks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def pearson(predictions: ArrayLike, references: ArrayLike) -> float:
    """Return Pearson's correlation; 0 where one side is constant.

    There the correlation is not defined and scipy gives NaN, which a curve cannot show and a rule for the best model
    cannot compare: a model that answers the same to everything says nothing of the reference, hence 0.

    Shapes: (N,), (N,).

    Raises:
        ValueError: Fewer than two entries, different shapes, or a prediction that is not finite.
    """
    centred = [_centred(values) for values in _both(predictions, references)]
    lengths = [np.linalg.norm(values) for values in centred]
    if not all(lengths):
        return 0.0
    cosine = float((centred[0] / lengths[0]) @ (centred[1] / lengths[1]))
    return min(max(cosine, -1.0), 1.0)


def spearman(predictions: ArrayLike, references: ArrayLike) -> float:
    """Return Spearman's rank correlation, equal values sharing their mean rank; 0 where one side is constant.

    Shapes: (N,), (N,).

    Raises:
        ValueError: As `pearson`.
    """
    return pearson(*(_ranks(values) for values in _both(predictions, references)))


def _both(predictions: ArrayLike, references: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    predictions, references = np.asarray(predictions, np.float64), np.asarray(references, np.float64)
    if predictions.shape != references.shape or predictions.ndim != 1:
        raise ValueError(f"expected one prediction for each reference, got {predictions.shape} and {references.shape}")
    if len(references) < 2:
        raise ValueError(f"a correlation needs two examples at least, got {len(references)}")
    if not (np.isfinite(predictions).all() and np.isfinite(references).all()):
        raise ValueError("a correlation needs finite numbers; the model's predictions (or the references) are not")
    return predictions, references


def _centred(values: NDArray[np.float64]) -> NDArray[np.float64]:
    # A constant minus its mean need not be zero in floating point.
    return np.zeros_like(values) if (values == values[0]).all() else values - values.mean()


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]
