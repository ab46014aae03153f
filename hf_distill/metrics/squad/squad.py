"""Exact match and F1 of answers, as an `evaluate` module."""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

import hf_distill.metrics.numbers_answers as numbers


class Squad(evaluate.Metric):
    """Exact match and F1 as SQuAD 1.1 defines them, as shares."""

    def _info(self) -> evaluate.MetricInfo:
        text, number = datasets.Value("string"), datasets.Value("int64")
        answers = {"text": datasets.Sequence(text), "answer_start": datasets.Sequence(number)}
        return evaluate.MetricInfo(
            description="Exact match and F1 of extracted answers, normalised as SQuAD 1.1's own script does.",
            citation="",
            inputs_description=(
                "predictions: {id, prediction_text}; references: {id, answers: {text, answer_start}}, in any order."
            ),
            features=datasets.Features(
                {
                    "predictions": {"id": text, "prediction_text": text},
                    "references": {"id": text, "answers": answers},
                }
            ),
        )

    def _compute(self, *, predictions: list[dict[str, Any]], references: list[dict[str, Any]]) -> dict[str, float]:
        given = {one["id"]: one["prediction_text"] for one in predictions}
        missing = [one["id"] for one in references if one["id"] not in given]
        if missing:
            raise ValueError(f"{len(missing)} questions have no prediction, the first is {missing[0]!r}")
        return numbers.answers(
            [given[one["id"]] for one in references], [one["answers"]["text"] for one in references]
        )
