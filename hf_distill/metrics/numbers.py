"""The metrics as functions of arrays: what tasks call in every evaluation and what the `evaluate` modules wrap.

Tasks do not go through `evaluate.load`: it copies its script and its inputs to a cache outside of the run's folder.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from hf_distill.reading.signals import IGNORE_INDEX


def accuracy(predictions: ArrayLike, references: ArrayLike) -> float:
    """Return the share of equal entries.

    Comparable between models on the same examples; chance is the share of the most frequent class.

    Shapes: (N,), (N,).

    Raises:
        ValueError: No entries, or different shapes.
    """
    predictions, references = _same_shape(predictions, references)
    if not references.size:
        raise ValueError("accuracy of 0 examples is not defined: the evaluation set is empty")
    return float((predictions == references).mean())


def masked_accuracy(predictions: ArrayLike, references: ArrayLike) -> float:
    """Return the share of equal entries among those with a reference other than -100.

    Comparable between models with the same tokenizer on the same text with the same masked positions.

    Shapes: any, the same for both.

    Raises:
        ValueError: No reference counts, or different shapes.
    """
    predictions, references = _same_shape(predictions, references)
    counted = references != IGNORE_INDEX
    if not counted.any():
        raise ValueError("accuracy of 0 tokens is not defined: every label is -100, so no position is masked for it")
    return float((predictions[counted] == references[counted]).mean())


def mean_nll(nll: ArrayLike) -> float:
    """Return the mean negative log-likelihood of a token, in nats, added up in float64.

    Shapes: any.

    Raises:
        ValueError: No tokens.
    """
    nll = np.asarray(nll, dtype=np.float64)
    if not nll.size:
        raise ValueError("the likelihood of 0 tokens is not defined: the evaluation set has no labelled token")
    return float(nll.mean())


def perplexity(nll: ArrayLike) -> float:
    """Return exp of the mean negative log-likelihood (nats) of a token; infinite beyond the range of a float.

    Comparable only between models with the same tokenizer; a masked model's only with the same masked positions, and
    never with a causal model's.

    Shapes: any.

    Raises:
        ValueError: No tokens.
    """
    mean = mean_nll(nll)
    return math.exp(mean) if mean < 709 else math.inf


def bits_per_byte(nll: ArrayLike, *, text_bytes: float) -> float:
    """Return the bits a causal model spends on a byte of UTF-8 text.

    Comparable across tokenizers, as long as they lose nothing: an unknown token or lower-casing hides bytes.

    Args:
        nll: Negative log-likelihood of every token of the text in nats, the ends of documents included.
        text_bytes: Length of that text in UTF-8, without the ends of documents.

    Raises:
        ValueError: No tokens or no bytes.
    """
    if not text_bytes > 0:
        raise ValueError(f"text_bytes: expected the length of the text in bytes, at least 1, got {text_bytes}")
    return mean_nll(nll) * np.asarray(nll).size / math.log(2) / text_bytes


def _same_shape(predictions: ArrayLike, references: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    predictions, references = np.asarray(predictions), np.asarray(references)
    if predictions.shape != references.shape:
        raise ValueError(f"expected one prediction for each reference, got {predictions.shape} and {references.shape}")
    return predictions, references
