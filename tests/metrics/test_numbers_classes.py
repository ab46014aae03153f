from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, matthews_corrcoef

from hf_distill.metrics import numbers_classes as numbers

PAIRS = st.integers(2, 40).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 3), min_size=n, max_size=n) for _ in range(2)])
)


def reference_f1(predictions: list[int], references: list[int], average: str) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(f1_score(references, predictions, average=average, zero_division=0))


@settings(derandomize=True, deadline=None)
@given(PAIRS)
def test_matthews_correlation_agrees_with_scikit_learn(pair: tuple[list[int], list[int]]) -> None:
    predictions, references = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a single class on both sides
        expected = matthews_corrcoef(references, predictions)
    assert numbers.matthews_correlation(predictions, references) == pytest.approx(expected, abs=1e-12)


@settings(derandomize=True, deadline=None)
@given(PAIRS, st.sampled_from(["macro", "micro", "weighted"]))
def test_f1_over_classes_agrees_with_scikit_learn(pair: tuple[list[int], list[int]], average: str) -> None:
    expected = reference_f1(*pair, average)
    assert numbers.f1(*pair, average=average) == pytest.approx(expected, abs=1e-12)  # type: ignore[arg-type]


@settings(derandomize=True, deadline=None)
@given(PAIRS)
def test_f1_of_two_classes_agrees_with_scikit_learn(pair: tuple[list[int], list[int]]) -> None:
    predictions, references = ([value % 2 for value in side] for side in pair)
    expected = reference_f1(predictions, references, "binary")
    assert numbers.f1(predictions, references) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("constant", [0, 1])
def test_a_model_that_always_says_the_same_gives_no_nan(constant: int) -> None:
    references = [0, 1, 1, 0, 1]
    assert numbers.matthews_correlation([constant] * 5, references) == 0.0
    assert numbers.f1([constant] * 5, references) == pytest.approx(0.75 if constant else 0.0)
    assert numbers.matthews_correlation(references, [constant] * 5) == 0.0


def test_the_positive_class_can_be_chosen() -> None:
    assert numbers.f1([0, 0, 1], [0, 1, 1], positive=0) == pytest.approx(2 / 3)
    assert numbers.f1([1, 1], [1, 1], positive=0) == 0.0


def test_the_counts_of_large_sets_do_not_overflow() -> None:
    generator = np.random.default_rng(0)
    references = generator.integers(0, 2, 400_000)
    predictions = np.where(generator.random(400_000) < 0.8, references, 1 - references)
    expected = matthews_corrcoef(references, predictions)
    assert numbers.matthews_correlation(predictions, references) == pytest.approx(expected, abs=1e-12)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluation set is empty"):
        numbers.matthews_correlation([], [])
    with pytest.raises(ValueError, match="one prediction for each"):
        numbers.f1([0, 1], [0])
    with pytest.raises(ValueError, match=r"'binary' is for two classes, but there are 3; use 'macro'"):
        numbers.f1([0, 1, 2], [0, 1, 1])
    with pytest.raises(ValueError, match="average: expected one of binary, macro"):
        numbers.f1([0], [0], average="samples")  # type: ignore[arg-type]
