"""BLEU of written texts, as an `evaluate` module."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

import hf_distill.metrics.numbers_texts as numbers


class Sacrebleu(evaluate.Metric):
    """Corpus BLEU by the library sacreBLEU, with its signature."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="Corpus BLEU by sacreBLEU, on the scale from 0 to 100, its signature and the length ratio.",
            citation="",
            inputs_description="predictions: texts; references: one for each. Options: lowercase, tokenize.",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(
        self, *, predictions: list[str], references: list[str], lowercase: bool = False, tokenize: str = "13a"
    ) -> dict[str, Any]:
        return numbers.sacre_bleu(predictions, references, lowercase=lowercase, tokenize=tokenize)
