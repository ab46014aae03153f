"""F1 of classes, as an `evaluate` module."""

from __future__ import annotations

import datasets
import evaluate

import hf_distill.metrics.numbers_classes as numbers


class F1(evaluate.Metric):
    """Harmonic mean of precision and recall."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Harmonic mean of precision and recall of one class, or averaged over classes.",
            citation="",
            inputs_description=(
                "predictions: class ids; references: class ids; average: binary (of the class `positive`, 1 by "
                "default), macro, micro or weighted."
            ),
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(
        self,
        *,
        predictions: list[int],
        references: list[int],
        average: numbers.Average = "binary",
        positive: int = 1,
    ) -> dict[str, float]:
        return {"f1": numbers.f1(predictions, references, average=average, positive=positive)}
