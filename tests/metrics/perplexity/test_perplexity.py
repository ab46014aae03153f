from __future__ import annotations

import numpy as np
import pytest

from hf_distill.metrics import load_metric


def test_perplexity_is_the_exponential_of_the_mean() -> None:
    nll = np.random.default_rng(0).exponential(3.0, 500)
    result = load_metric("perplexity").compute(predictions=nll)
    assert result == pytest.approx({"nll": nll.mean(), "perplexity": np.exp(nll.mean())}, rel=1e-9)
