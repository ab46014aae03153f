"""ROUGE of summaries, as an `evaluate` module."""

from __future__ import annotations

import datasets
import evaluate

import hf_distill.metrics.numbers_texts as numbers


class Rouge(evaluate.Metric):
    """Mean F1 of ROUGE-1, -2, -L and -Lsum by the library rouge-score."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="Mean F1 of ROUGE-1, ROUGE-2, ROUGE-L and ROUGE-Lsum, on the scale from 0 to 100.",
            citation="",
            inputs_description="predictions: summaries; references: one for each. Option: use_stemmer.",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, *, predictions: list[str], references: list[str], use_stemmer: bool = True) -> dict[str, float]:
        return numbers.rouge(predictions, references, use_stemmer=use_stemmer)
