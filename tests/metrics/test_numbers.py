from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, log_loss

from hf_distill.metrics import numbers

GENERATOR = np.random.default_rng(0)


def test_accuracy_agrees_with_scikit_learn() -> None:
    predictions, references = GENERATOR.integers(0, 3, (2, 101))
    assert numbers.accuracy(predictions, references) == pytest.approx(
        accuracy_score(references, predictions), abs=1e-12
    )


def test_masked_positions_do_not_count_in_the_accuracy() -> None:
    predictions, references = GENERATOR.integers(0, 3, (2, 20, 8))
    hidden = GENERATOR.random((20, 8)) < 0.7
    masked = np.where(hidden, -100, references)
    expected = accuracy_score(references[~hidden], predictions[~hidden])
    assert numbers.masked_accuracy(predictions, masked) == pytest.approx(expected, abs=1e-12)


def test_perplexity_agrees_with_scikit_learn() -> None:
    probabilities, labels = GENERATOR.dirichlet(np.ones(5), 50), GENERATOR.integers(0, 5, 50)
    nll = -np.log(probabilities[np.arange(50), labels])
    expected = log_loss(labels, probabilities, labels=range(5))
    assert numbers.mean_nll(nll) == pytest.approx(expected, rel=1e-12)
    assert numbers.perplexity(nll) == pytest.approx(math.exp(expected), rel=1e-12)


def test_a_uniform_guess_has_the_vocabulary_as_its_perplexity() -> None:
    nll = np.full(1000, math.log(256.0))
    assert numbers.perplexity(nll) == pytest.approx(256.0, rel=1e-12)
    # A token is a byte here, so a uniform guess spends 8 bits on each.
    assert numbers.bits_per_byte(nll, text_bytes=1000) == pytest.approx(8.0, rel=1e-12)


def test_many_single_precision_values_keep_their_sum() -> None:
    nll = np.full(3_000_000, 0.1, dtype=np.float32)
    assert numbers.mean_nll(nll) == pytest.approx(float(np.float32(0.1)), rel=1e-12)


def test_a_diverged_model_raises_no_overflow() -> None:
    assert numbers.perplexity([1000.0]) == math.inf


@settings(derandomize=True, deadline=None)
@given(st.lists(st.floats(0, 20), min_size=1, max_size=50), st.integers(1, 1000))
def test_cutting_the_text_differently_does_not_change_the_bits(nll: list[float], text_bytes: int) -> None:
    merged = [sum(nll)]  # the same bits in one token
    expected = numbers.bits_per_byte(merged, text_bytes=text_bytes)
    assert numbers.bits_per_byte(nll, text_bytes=text_bytes) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: numbers.accuracy([], []), "evaluation set is empty"),
        (lambda: numbers.accuracy([1, 2], [1]), "one prediction for each reference"),
        (lambda: numbers.masked_accuracy([1, 2], [-100, -100]), "every label is -100"),
        (lambda: numbers.perplexity([]), "no labelled token"),
        (lambda: numbers.bits_per_byte([1.0], text_bytes=0), "at least 1, got 0"),
    ],
)
def test_nothing_to_measure_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
