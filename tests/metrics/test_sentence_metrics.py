from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from transformers import EvalPrediction

from hf_distill.metrics.sentence_metrics import SentenceMetrics, of_classes, of_numbers

GENERATOR = np.random.default_rng(0)


def test_the_metrics_of_classes_agree_with_scikit_learn() -> None:
    logits, labels = GENERATOR.normal(size=(80, 2)), GENERATOR.integers(0, 2, 80)
    predicted = logits.argmax(-1)
    expected = {
        "accuracy": accuracy_score(labels, predicted),
        "f1": f1_score(labels, predicted),
        "f1_macro": f1_score(labels, predicted, average="macro"),
        "matthews_correlation": matthews_corrcoef(labels, predicted),
    }
    metrics = SentenceMetrics(tuple(of_classes()))
    for predictions in (logits, (logits, np.zeros(3))):
        found = metrics(EvalPrediction(predictions=predictions, label_ids=labels))
        assert found == pytest.approx(expected, abs=1e-12)
        assert all(type(value) is float for value in found.values())


def test_the_metrics_of_numbers_agree_with_scipy() -> None:
    outputs, labels = GENERATOR.normal(size=(50, 1)).astype(np.float32), GENERATOR.random(50) * 5
    found = SentenceMetrics(tuple(of_numbers()))(EvalPrediction(predictions=outputs, label_ids=labels))
    flat = outputs[:, 0].astype(np.float64)
    expected = {"pearson": pearsonr(flat, labels).statistic, "spearman": spearmanr(flat, labels).statistic}
    assert found == pytest.approx(expected, abs=1e-12)
