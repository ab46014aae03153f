from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.metrics import numbers_answers as numbers

WORDS = st.lists(st.sampled_from(["The", "a", "an", "cat", "Cat,", "sat.", "u.s.", "é", "12", "then"]), max_size=6)
TEXTS = WORDS.map(" ".join)


def words_left(text: str) -> list[str]:
    """What the published script compares, letter by letter instead of by patterns."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return [word for word in kept.split() if word not in ("a", "an", "the")]


@settings(derandomize=True, deadline=None)
@given(TEXTS, TEXTS)
def test_words_are_matched_one_by_one(prediction: str, reference: str) -> None:
    found, expected = words_left(prediction), words_left(reference)
    assert numbers.normalized_answer(prediction).split() == found
    assert numbers.answer_exact_match(prediction, reference) == (found == expected)
    left = list(expected)
    common = 0
    for word in found:
        if word in left:
            left.remove(word)
            common += 1
    precision, recall = (common / max(len(side), 1) for side in (found, expected))
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    assert numbers.answer_f1(prediction, reference) == pytest.approx(f1, abs=1e-12)


def test_the_numbers_are_those_of_the_published_script() -> None:
    # evaluate-v1.1.py of SQuAD says 60.0 and 73.33 of these, in percent.
    predictions = ["the Cat sat.", "u.s. 12", "a", "in the north", "(The) cat"]
    references = [["cat"], ["U.S.", "12 us"], ["an the"], ["North", "in north a"], ["cat Cat, the", "cat"]]
    found = numbers.answers(predictions, references)
    assert found == pytest.approx({"exact_match": 0.6, "f1": 11 / 15}, abs=1e-12)


@pytest.mark.parametrize(
    ("prediction", "reference", "exact", "f1"),
    [
        ("the Cat", "cat.", 1.0, 1.0),  # case, article, punctuation
        ("an apple a day", "apple day", 1.0, 1.0),
        ("theatre", "atre", 0.0, 0.0),  # no article inside of a word
        ("U.S.", "us", 1.0, 1.0),
        ("twenty-one", "twenty one", 0.0, 0.0),  # punctuation goes without a space
        ("new york city", "york", 0.0, 0.5),  # 1 of 3 and 1 of 1 words
        ("york york", "york", 0.0, 2 / 3),  # a word counts as often as the reference has it
        ("in  the\tnorth", "in north", 1.0, 1.0),
        ("", "north", 0.0, 0.0),
        ("the", "a", 1.0, 0.0),  # nothing is left of either: equal, but no common word
    ],
)
def test_an_answer_scored_by_hand(prediction: str, reference: str, exact: float, f1: float) -> None:
    assert numbers.answer_exact_match(prediction, reference) == exact
    assert numbers.answer_f1(prediction, reference) == pytest.approx(f1)


def test_the_best_reference_counts() -> None:
    found = numbers.answers(["big apple", "1999"], [["new york", "the big apple"], ["in 1999", "year 1999 a"]])
    assert found == pytest.approx({"exact_match": 0.5, "f1": (1 + 2 / 3) / 2})


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="got 0 answers and 0 questions"):
        numbers.answers([], [])
    with pytest.raises(ValueError, match="got 1 answers and 2 questions"):
        numbers.answers(["x"], [["x"], ["y"]])
    with pytest.raises(ValueError, match="question 1 has no accepted answer"):
        numbers.answers(["x", "y"], [["x"], []])
