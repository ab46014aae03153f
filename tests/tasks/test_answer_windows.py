from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from builders import word_tokenizer
from tables import sentences
from transformers import PreTrainedTokenizerFast

from hf_distill.tasks.answer_windows import OUTSIDE, Span, Windows, cut_questions, windows_of
from hf_distill.tasks.tokenizer_training import train_tokenizer

TEXTS = sentences(80, words=(3, 9))
CONTEXT = " ".join(TEXTS[:12])
QUESTION = "the value of a file"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, kind="wordpiece", vocab_size=320, token_types=True)


def cut(tokenizer: PreTrainedTokenizerFast, contexts: list[str], **fields: Any) -> Windows:
    settings = {"max_length": 32, "stride": 8, **fields}
    return windows_of(tokenizer, [QUESTION] * len(contexts), contexts, **settings)


def letters_of(windows: Windows, window: int) -> tuple[np.ndarray, np.ndarray]:
    first, last = list(pairwise(windows.starts.starts))[window]
    return windows.starts.values[first:last], windows.ends.values[first:last]


def test_every_letter_of_the_context_is_in_a_window(tokenizer: PreTrainedTokenizerFast) -> None:
    windows = cut(tokenizer, [CONTEXT, "a short one"])
    assert windows.questions_W.tolist() == [0] * (len(windows.questions_W) - 1) + [1]
    assert len(windows.questions_W) > 4
    covered = np.zeros(len(CONTEXT), dtype=bool)
    for window in np.flatnonzero(windows.questions_W == 0):
        for start, end in zip(*letters_of(windows, window), strict=True):
            if start != OUTSIDE:
                covered[start:end] = True
    assert all(covered[place] or CONTEXT[place] == " " for place in range(len(CONTEXT)))


def test_windows_share_as_much_as_the_stride(tokenizer: PreTrainedTokenizerFast) -> None:
    windows = cut(tokenizer, [CONTEXT])
    inside = [set(starts[starts != OUTSIDE].tolist()) for starts, _ in (letters_of(windows, w) for w in range(3))]
    assert [len(before & after) for before, after in pairwise(inside)] == [8, 8]
    assert windows.columns["input_ids"].lengths.max() == 32


def test_the_question_is_no_place_for_answers(tokenizer: PreTrainedTokenizerFast) -> None:
    windows = cut(tokenizer, [QUESTION])
    starts, _ = letters_of(windows, 0)
    assert (windows.inside(0) == (starts != OUTSIDE)).all()
    ids = windows.columns["input_ids"].values.tolist()
    behind = ids.index(tokenizer.sep_token_id)
    assert (starts[: behind + 1] == OUTSIDE).all()
    assert (starts[behind + 1 : -1] != OUTSIDE).all()


def test_an_answer_is_found_in_its_windows(tokenizer: PreTrainedTokenizerFast) -> None:
    windows = cut(tokenizer, [CONTEXT])
    for start in range(0, len(CONTEXT) - 12, 7):
        begin = CONTEXT.rindex(" ", 0, start) + 1 if " " in CONTEXT[:start] else 0
        end = CONTEXT.find(" ", begin + 6) if " " in CONTEXT[begin + 6 :] else len(CONTEXT)
        found = 0
        for window, (first, last) in enumerate(windows.positions([Span(begin, end)]).tolist()):
            starts, ends = letters_of(windows, window)
            if (first, last) == (0, 0):
                context = starts != OUTSIDE
                assert starts[context].min() > begin or ends[context].max() < end, "the answer is in this window"
                continue
            found += 1
            assert CONTEXT[starts[first] : ends[last]] == CONTEXT[begin:end]
        assert found, "an answer shorter than the stride is in one window at least"


def test_an_answer_inside_of_a_word_is_not_lost(tokenizer: PreTrainedTokenizerFast) -> None:
    windows = cut(tokenizer, ["zzz returns"])
    first, last = windows.positions([Span(5, 7)])[0].tolist()
    starts, ends = letters_of(windows, 0)
    assert starts[first] <= 5
    assert ends[last] >= 7


def test_a_long_question_leaves_room(tokenizer: PreTrainedTokenizerFast) -> None:
    questions, count = cut_questions(tokenizer, ["  the value ", "value " * 50], max_length=10)
    assert (questions[0], count) == ("the value", 1)
    assert len(tokenizer(questions[1], add_special_tokens=False)["input_ids"]) == 10
    assert questions[1] == " ".join(["value"] * 10)


def test_windows_do_not_depend_on_how_many_questions_are_cut_at_once(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = [CONTEXT, *TEXTS[:9]]
    whole = cut(tokenizer, contexts)
    monkeypatch.setattr("hf_distill.tasks.answer_windows.QUESTIONS_AT_ONCE", 3)
    parts = cut(tokenizer, contexts)
    assert parts.questions_W.tolist() == whole.questions_W.tolist()
    assert np.array_equal(parts.starts.values, whole.starts.values)


def test_something_stands_between_question_and_context() -> None:
    with pytest.raises(ValueError, match="puts nothing between question and context"):
        windows_of(word_tokenizer("a", "b"), ["a"], ["b"], max_length=16, stride=4)
