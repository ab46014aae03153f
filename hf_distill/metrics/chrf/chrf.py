"""chrF of written texts, as an `evaluate` module."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

import hf_distill.metrics.numbers_texts as numbers


class Chrf(evaluate.Metric):
    """Corpus chrF by the library sacreBLEU, with its signature."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="Corpus chrF by sacreBLEU (chrF++ with word_order 2), from 0 to 100, and its signature.",
            citation="",
            inputs_description="predictions: texts; references: one for each. Options: lowercase, word_order.",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self, *, predictions: list[str], references: list[str], lowercase: bool = False, word_order: int = 0
    ) -> dict[str, Any]:
        return numbers.chrf(predictions, references, lowercase=lowercase, word_order=word_order)
