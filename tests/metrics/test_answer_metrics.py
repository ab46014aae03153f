from __future__ import annotations

import numpy as np
import pytest
from transformers import EvalPrediction

from hf_distill.metrics.answer_metrics import AnswerMetrics
from hf_distill.tasks.answer_windows import OUTSIDE, Windows
from hf_distill.tasks.token_rows import Ragged

CONTEXTS = ["in New York", "the old oak"]
# Question 0 has two windows, question 1 one; a special token and one of the question stand in front of each.
STARTS = [[OUTSIDE, OUTSIDE, 0, 3], [OUTSIDE, OUTSIDE, 3, 7], [OUTSIDE, OUTSIDE, 0, 4, 8]]
ENDS = [[OUTSIDE, OUTSIDE, 2, 6], [OUTSIDE, OUTSIDE, 6, 11], [OUTSIDE, OUTSIDE, 3, 7, 11]]
POSITIONS = np.array([[0, 0], [2, 3], [3, 4]])


def metrics(n_best: int = 20, max_answer_length: int = 30) -> AnswerMetrics:
    windows = Windows({}, np.array([0, 0, 1]), Ragged.of(STARTS), Ragged.of(ENDS))
    return AnswerMetrics(
        windows=windows,
        contexts=CONTEXTS,
        accepted=[["New York", "York"], ["old oak"]],
        positions_W2=POSITIONS,
        n_best=n_best,
        max_answer_length=max_answer_length,
    )


def logits(*marked: tuple[int, int, int, float]) -> np.ndarray:
    """Logits (W, T, 2) of 0 with some others, given as (window, position, start or end, logit); padding is -100."""
    values = np.full((3, 5, 2), -100.0)
    for window, row in enumerate(STARTS):
        values[window, : len(row)] = 0.0
    for window, position, side, value in marked:
        values[window, position, side] = value
    return values


def prediction(values: np.ndarray, positions: np.ndarray = POSITIONS) -> EvalPrediction:
    return EvalPrediction(predictions=(values[..., 0], values[..., 1]), label_ids=(positions[:, 0], positions[:, 1]))


def test_the_better_window_wins() -> None:
    values = logits((0, 2, 0, 1.0), (0, 3, 1, 1.0), (1, 2, 0, 2.0), (1, 3, 1, 2.0), (2, 3, 0, 1.0), (2, 4, 1, 1.0))
    assert metrics().texts(values) == ["New York", "old oak"]
    assert metrics()(prediction(values)) == {"exact_match": 1.0, "f1": 1.0}


def test_neither_the_question_nor_padding_answers() -> None:
    values = logits((2, 0, 0, 9.0), (2, 1, 1, 9.0), (2, 4, 0, 1.0), (2, 4, 1, 1.0))
    assert metrics().texts(values)[1] == "oak"
    values[0, 4] = 50.0  # behind the end of the first window
    assert metrics().texts(values)[0] == "in"


def test_no_answer_ends_before_it_begins() -> None:
    values = logits((2, 4, 0, 5.0), (2, 2, 1, 5.0), (2, 3, 0, 1.0))
    assert metrics().texts(values)[1] == "oak", "5 + 0 is more than 1 + 0 and than 0 + 5"
    assert metrics(n_best=1).texts(values)[1] == "", "the best start lies behind the best end"


def test_no_answer_is_longer_than_allowed() -> None:
    values = logits((2, 2, 0, 5.0), (2, 4, 1, 5.0), (2, 3, 1, 1.0))
    assert metrics().texts(values)[1] == "the old oak"
    assert metrics(max_answer_length=2).texts(values)[1] == "the old"
    assert metrics(max_answer_length=1).texts(values)[1] == "the"


def test_the_search_finds_the_best_span() -> None:
    """Against every pair of positions, one by one."""
    generator = np.random.default_rng(0)
    values = np.where(logits()[..., :1] == -100, -100.0, generator.normal(size=(3, 5, 2)))
    expected = []
    for question, windows in ((0, (0, 1)), (1, (2,))):
        spans = [
            (values[w, a, 0] + values[w, b, 1], CONTEXTS[question][STARTS[w][a] : ENDS[w][b]])
            for w in windows
            for a in range(2, len(STARTS[w]))
            for b in range(a, min(a + 2, len(STARTS[w])))
        ]
        expected.append(max(spans)[1])
    assert metrics(max_answer_length=2).texts(values) == expected


def test_a_part_of_the_answer_counts() -> None:
    values = logits((1, 3, 0, 1.0), (1, 3, 1, 1.0), (2, 2, 0, 1.0), (2, 4, 1, 1.0))
    found = metrics()(prediction(values))
    # "York" is accepted; of "the old oak" the article does not count.
    assert found == {"exact_match": 1.0, "f1": 1.0}
    half = metrics()(prediction(logits((1, 3, 0, 1.0), (1, 3, 1, 1.0), (2, 4, 0, 1.0), (2, 4, 1, 1.0))))
    assert half == pytest.approx({"exact_match": 0.5, "f1": (1 + 2 / 3) / 2})


def test_windows_in_another_order_are_refused() -> None:
    with pytest.raises(ValueError, match=r"group_by_length moves held-out examples"):
        metrics()(prediction(logits(), POSITIONS[::-1]))
    with pytest.raises(ValueError, match="2 predictions do not belong to the 3 windows"):
        metrics()(prediction(logits()[:2], POSITIONS[:2]))
