from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import EvalPrediction

from hf_distill.metrics.language_modeling import TokenMetrics, shrink_logits, token_statistics

B, T, V = 3, 7, 11


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(B, T, V) * 4


@pytest.fixture
def labels() -> torch.Tensor:
    labels = torch.randint(0, V, (B, T))
    labels[0, 4:] = -100
    labels[2, :5] = -100
    return labels


def measure(head: str, logits: torch.Tensor, labels: torch.Tensor, **fields: float) -> dict[str, float]:
    statistics = tuple(values.numpy() for values in shrink_logits(head)(logits, labels))
    return TokenMetrics(head=head, **fields)(EvalPrediction(predictions=statistics, label_ids=labels.numpy()))


def reference(logits: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """Accuracy and mean negative log-likelihood, position by position in float64."""
    hits, nll = [], []
    for row, row_labels in zip(logits.double().numpy(), labels.numpy(), strict=True):
        for scores, label in zip(row, row_labels, strict=True):
            if label != -100:
                hits.append(scores.argmax() == label)
                nll.append(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[label])
    return float(np.mean(hits)), float(np.mean(nll))


def test_masked_metrics_agree_with_a_float64_reference(logits: torch.Tensor, labels: torch.Tensor) -> None:
    hits, nll = reference(logits, labels)
    expected = {"masked_accuracy": hits, "nll": nll, "perplexity": np.exp(nll)}
    assert measure("masked_lm", logits, labels) == pytest.approx(expected, rel=1e-6)


def test_causal_metrics_do_not_compare_a_token_with_itself(logits: torch.Tensor, labels: torch.Tensor) -> None:
    hits, nll = reference(logits[:, :-1], labels[:, 1:])
    bits = nll / np.log(2) / 4.5
    expected = {"next_token_accuracy": hits, "nll": nll, "perplexity": np.exp(nll), "bits_per_byte": bits}
    assert measure("causal_lm", logits, labels, bytes_per_token=4.5) == pytest.approx(expected, rel=1e-6)


def test_a_model_that_knows_the_next_token_is_seen() -> None:
    labels = torch.randint(0, V, (B, T))
    logits = torch.zeros(B, T, V)
    logits[:, :-1].scatter_(-1, labels[:, 1:, None], 100.0)
    metrics = measure("causal_lm", logits, labels)
    assert metrics == pytest.approx({"next_token_accuracy": 1.0, "nll": 0.0, "perplexity": 1.0}, abs=1e-6)


def test_large_half_precision_logits_do_not_overflow() -> None:
    logits = torch.tensor([[[60000.0, -60000.0], [3.0, 1.0]]], dtype=torch.float16)
    predicted, nll = token_statistics(logits, torch.tensor([[1, 0]]))
    assert predicted.tolist() == [[0, 0]]
    torch.testing.assert_close(nll, torch.tensor([[120000.0, float(np.log1p(np.exp(-2.0)))]]), rtol=1e-3, atol=1e-4)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(0, 10_000))
def test_masked_positions_do_not_matter(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(B, T, V, generator=generator)
    labels = torch.randint(0, V, (B, T), generator=generator)
    labels[torch.rand(B, T, generator=generator) < 0.5] = -100
    labels[0, 0] = 1
    garbage = torch.where((labels == -100)[..., None], torch.full_like(logits, 1e30), logits)
    assert measure("masked_lm", logits, labels) == measure("masked_lm", garbage, labels)


def test_further_outputs_of_a_model_are_not_taken_for_logits(logits: torch.Tensor, labels: torch.Tensor) -> None:
    extra = (logits, torch.zeros(B, 2))
    for ours, theirs in zip(shrink_logits("masked_lm")(extra, labels), token_statistics(logits, labels), strict=True):
        assert torch.equal(ours, theirs)


def test_gathered_statistics_are_smaller_than_logits(logits: torch.Tensor, labels: torch.Tensor) -> None:
    assert [tuple(x.shape) for x in shrink_logits("causal_lm")(logits, labels)] == [(B, T - 1)] * 2
    assert [tuple(x.shape) for x in shrink_logits("masked_lm")(logits, labels)] == [(B, T)] * 2
