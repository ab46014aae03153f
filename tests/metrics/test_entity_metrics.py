from __future__ import annotations

import numpy as np
import pytest
import torch
from seqeval.metrics import f1_score
from transformers import EvalPrediction

from hf_distill.metrics.entity_metrics import EntityMetrics, best_tags

NAMES = ("O", "B-person", "I-person", "B-place")


def test_positions_without_a_label_do_not_count() -> None:
    labels = np.array([[-100, 1, -100, 2, 0, -100], [-100, 3, 0, -100, -100, -100]])
    predicted = np.array([[3, 1, 3, 2, 0, 3], [1, 0, 0, 3, -100, -100]])
    found = EntityMetrics(NAMES)(EvalPrediction(predictions=predicted, label_ids=labels))
    references = [["B-person", "I-person", "O"], ["B-place", "O"]]
    predictions = [["B-person", "I-person", "O"], ["O", "O"]]
    assert found["f1"] == pytest.approx(f1_score(references, predictions), abs=1e-12)
    assert found == pytest.approx({"precision": 1.0, "recall": 0.5, "f1": 2 / 3, "tag_accuracy": 0.8})


def test_the_best_tag_is_gathered() -> None:
    logits = torch.tensor([[[0.0, 2.0, 1.0], [3.0, 1.0, 2.0]]])
    for given in (logits, (logits, None)):
        assert best_tags(given, torch.zeros(1, 2)).tolist() == [[1, 0]]
