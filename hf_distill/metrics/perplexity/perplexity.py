"""Perplexity from token likelihoods, as an `evaluate` module."""

from __future__ import annotations

import datasets
import evaluate

import hf_distill.metrics.numbers as numbers


class Perplexity(evaluate.Metric):
    """Exponential of the mean negative log-likelihood of a token."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Mean negative log-likelihood of a token in nats, and its exponential.",
            citation="",
            inputs_description="predictions: negative log-likelihood of each scored token, in nats.",
            features=datasets.Features({"predictions": datasets.Value("float64")}),
        )

    def _compute(self, *, predictions: list[float]) -> dict[str, float]:
        return {"nll": numbers.mean_nll(predictions), "perplexity": numbers.perplexity(predictions)}
