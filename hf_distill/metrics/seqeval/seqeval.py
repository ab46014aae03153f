"""Precision, recall and F1 of entities, as an `evaluate` module."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

import hf_distill.metrics.numbers_entities as numbers


class Seqeval(evaluate.Metric):
    """Precision, recall and F1 of whole entities, by the library seqeval."""

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description="Precision, recall and F1 of entities over all types and of each type; accuracy of tags.",
            citation="",
            inputs_description="predictions: tags of each sentence, such as B-person; references: the same.",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, *, predictions: list[list[str]], references: list[list[str]]) -> dict[str, Any]:
        by_type = numbers.entities_by_type(predictions, references)
        return {**numbers.entities(predictions, references), "types": by_type}
