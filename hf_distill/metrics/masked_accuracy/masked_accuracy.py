"""Share of right tokens among the labelled ones, as an `evaluate` module."""

from __future__ import annotations

import datasets
import evaluate

import hf_distill.metrics.numbers as numbers


class MaskedAccuracy(evaluate.Metric):
    """Share of predictions that equal their reference, where the reference is not -100."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of right tokens among those with a reference other than -100.",
            citation="",
            inputs_description="predictions: token ids; references: token ids, or -100 where a token does not count.",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, *, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"masked_accuracy": numbers.masked_accuracy(predictions, references)}
