from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score

from hf_distill.metrics import load_metric


def test_masked_tokens_do_not_count() -> None:
    predictions, references = np.random.default_rng(0).integers(0, 3, (2, 60))
    expected = accuracy_score(references[20:], predictions[20:])
    references[:20] = -100
    result = load_metric("masked_accuracy").compute(predictions=predictions, references=references)
    assert result == {"masked_accuracy": pytest.approx(expected, abs=1e-12)}
