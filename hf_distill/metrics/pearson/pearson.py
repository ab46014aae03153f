"""Pearson's correlation of numbers, as an `evaluate` module."""

from __future__ import annotations

import datasets
import evaluate

import hf_distill.metrics.numbers_correlation as numbers


class Pearson(evaluate.Metric):
    """Pearson's correlation of numbers."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Pearson's correlation of numbers; 0 where one side is constant.",
            citation="",
            inputs_description="predictions: numbers; references: numbers.",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("float64")}
            ),
        )

    def _compute(self, *, predictions: list[float], references: list[float]) -> dict[str, float]:
        return {"pearson": numbers.pearson(predictions, references)}
