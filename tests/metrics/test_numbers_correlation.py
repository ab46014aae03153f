from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from hf_distill.metrics import numbers_correlation as numbers

VALUES = st.floats(-5, 5).map(lambda value: round(value, 2))
PAIRS = st.integers(2, 30).flatmap(lambda n: st.tuples(*[st.lists(VALUES, min_size=n, max_size=n) for _ in range(2)]))


@settings(derandomize=True, deadline=None)
@given(PAIRS)
def test_the_correlations_agree_with_scipy(pair: tuple[list[float], list[float]]) -> None:
    assume(all(len(set(side)) > 1 for side in pair))
    assert numbers.pearson(*pair) == pytest.approx(pearsonr(*pair).statistic, abs=1e-9)
    assert numbers.spearman(*pair) == pytest.approx(spearmanr(*pair).statistic, abs=1e-9)


def test_ties_are_not_broken_by_their_place() -> None:
    predictions, references = [1.0, 1.0, 2.0, 3.0, 3.0, 3.0], [2.0, 1.0, 1.0, 4.0, 3.0, 4.0]
    expected = spearmanr(predictions, references).statistic
    assert numbers.spearman(predictions, references) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("constant", [0.0, 0.1, 2.5])
def test_a_model_that_always_says_the_same_gives_no_nan(constant: float) -> None:
    references = [0.5, 3.0, 4.5]
    for metric in (numbers.pearson, numbers.spearman):
        assert metric([constant] * 3, references) == 0.0
        assert metric(references, [constant] * 3) == 0.0


def test_single_precision_predictions_lose_no_digits() -> None:
    generator = np.random.default_rng(0)
    references = generator.random(1000) * 5
    predictions = (references + generator.normal(size=1000)).astype(np.float32)
    expected = pearsonr(predictions.astype(np.float64), references).statistic
    assert numbers.pearson(predictions, references) == pytest.approx(expected, abs=1e-12)
    assert numbers.pearson(references, 1.0 - 2 * references) == pytest.approx(-1.0, abs=1e-12)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="two examples at least, got 1"):
        numbers.pearson([1.0], [1.0])
    with pytest.raises(ValueError, match="one prediction for each"):
        numbers.spearman([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="finite numbers"):
        numbers.spearman([1.0, float("nan")], [1.0, 2.0])
