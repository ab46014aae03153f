"""Matthews' correlation of classes, as an `evaluate` module."""

from __future__ import annotations

import datasets
import evaluate

import hf_distill.metrics.numbers_classes as numbers


class MatthewsCorrelation(evaluate.Metric):
    """Matthews' correlation of predicted and right classes."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Matthews' correlation of classes: 1 is perfect, 0 does not depend on the reference.",
            citation="",
            inputs_description="predictions: class ids; references: class ids.",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, *, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"matthews_correlation": numbers.matthews_correlation(predictions, references)}
