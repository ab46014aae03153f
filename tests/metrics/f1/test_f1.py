from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score

from hf_distill.metrics import load_metric


@pytest.mark.parametrize("average", ["binary", "macro"])
def test_the_module_agrees_with_scikit_learn(average: str) -> None:
    predictions, references = np.random.default_rng(0).integers(0, 2, (2, 60))
    result = load_metric("f1").compute(predictions=predictions, references=references, average=average)
    assert result == {"f1": pytest.approx(f1_score(references, predictions, average=average), abs=1e-12)}


def test_the_positive_class_reaches_the_numbers() -> None:
    result = load_metric("f1").compute(predictions=[0, 0, 1], references=[0, 1, 1], positive=0)
    assert result == {"f1": pytest.approx(2 / 3)}
