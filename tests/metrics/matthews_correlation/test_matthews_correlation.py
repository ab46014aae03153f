from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import matthews_corrcoef

from hf_distill.metrics import load_metric


def test_the_module_agrees_with_scikit_learn() -> None:
    predictions, references = np.random.default_rng(0).integers(0, 3, (2, 60))
    result = load_metric("matthews_correlation").compute(predictions=predictions, references=references)
    assert result == {"matthews_correlation": pytest.approx(matthews_corrcoef(references, predictions), abs=1e-12)}
