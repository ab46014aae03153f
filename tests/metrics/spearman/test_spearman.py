from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from hf_distill.metrics import load_metric


def test_the_module_agrees_with_scipy() -> None:
    predictions, references = np.random.default_rng(0).random((2, 60)).round(1)
    result = load_metric("spearman").compute(predictions=predictions, references=references)
    assert result == {"spearman": pytest.approx(spearmanr(predictions, references).statistic, abs=1e-12)}
