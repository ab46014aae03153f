from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from hf_distill.metrics import load_metric


def test_the_module_agrees_with_scikit_learn() -> None:
    predictions, references = np.random.default_rng(0).integers(0, 3, (2, 60))
    result = load_metric("accuracy").compute(predictions=predictions, references=references)
    assert result == {"accuracy": pytest.approx(accuracy_score(references, predictions), abs=1e-12)}


def test_batches_give_the_number_of_the_whole() -> None:
    metric = load_metric("accuracy")
    metric.add_batch(predictions=[0, 1, 1], references=[0, 1, 0])
    metric.add_batch(predictions=[2], references=[2])
    assert metric.compute() == {"accuracy": 0.75}
