"""Bits per byte of text from token likelihoods, as an `evaluate` module."""

from __future__ import annotations

import datasets
import evaluate

import hf_distill.metrics.numbers as numbers


class BitsPerByte(evaluate.Metric):
    """Bits a causal model spends on a byte of UTF-8 text."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Sum of the tokens' negative log-likelihoods in bits, divided by the bytes of their text.",
            citation="",
            inputs_description="predictions: nll of each token, in nats; text_bytes: length of the text in UTF-8.",
            features=datasets.Features({"predictions": datasets.Value("float64")}),
        )

    def _compute(self, *, predictions: list[float], text_bytes: float) -> dict[str, float]:
        return {"bits_per_byte": numbers.bits_per_byte(predictions, text_bytes=text_bytes)}
