from __future__ import annotations

from typing import Any

import pytest

from hf_distill.metrics import load_metric


def reference(name: str, *texts: str) -> dict[str, Any]:
    return {"id": name, "answers": {"text": list(texts), "answer_start": [0] * len(texts)}}


def test_answers_are_not_matched_by_their_place() -> None:
    predictions = [{"id": "b", "prediction_text": "1999"}, {"id": "a", "prediction_text": "the Big apple"}]
    references = [reference("a", "new york", "big apple"), reference("b", "in 1999")]
    result = load_metric("squad").compute(predictions=predictions, references=references)
    assert result == pytest.approx({"exact_match": 0.5, "f1": (1 + 2 / 3) / 2})


def test_a_question_without_a_prediction_is_not_left_out() -> None:
    predictions = [{"id": "a", "prediction_text": "x"}, {"id": "c", "prediction_text": "x"}]
    with pytest.raises(ValueError, match="1 questions have no prediction, the first is 'b'"):
        load_metric("squad").compute(predictions=predictions, references=[reference("a", "x"), reference("b", "y")])
