from __future__ import annotations

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics import accuracy_score, classification_report, f1_score, precision_score, recall_score

from hf_distill.metrics import numbers_entities as numbers

TAGS = st.sampled_from(["O", "B-person", "I-person", "B-creative-work", "I-creative-work"])
SENTENCE = st.integers(1, 8).flatmap(lambda n: st.tuples(*[st.lists(TAGS, min_size=n, max_size=n) for _ in range(2)]))
SENTENCES = st.lists(SENTENCE, min_size=1, max_size=6)


@settings(derandomize=True, deadline=None)
@given(SENTENCES)
def test_the_entities_are_those_of_seqeval(sentences: list[tuple[list[str], list[str]]]) -> None:
    predictions, references = ([sentence[side] for sentence in sentences] for side in (0, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = {
            "precision": precision_score(references, predictions, zero_division=0),
            "recall": recall_score(references, predictions, zero_division=0),
            "f1": f1_score(references, predictions, zero_division=0),
            "tag_accuracy": accuracy_score(references, predictions),
        }
        report = classification_report(references, predictions, output_dict=True, zero_division=0)
    assert numbers.entities(predictions, references) == pytest.approx(expected, abs=1e-12)
    types = {name: row for name, row in report.items() if not name.endswith("avg")}
    found = numbers.entities_by_type(predictions, references)
    assert set(found) == set(types)
    for name, row in types.items():
        assert found[name] == pytest.approx(
            {"precision": row["precision"], "recall": row["recall"], "f1": row["f1-score"], "number": row["support"]}
        )


def test_a_sentence_counted_by_hand() -> None:
    references = [["B-person", "I-person", "O", "B-group"], ["O", "B-person"]]
    predictions = [["B-person", "O", "O", "B-group"], ["B-group", "B-person"]]
    found = numbers.entities(predictions, references)
    # Found: group and the second person; a half person and a group that is none are wrong.
    assert found == pytest.approx({"precision": 2 / 4, "recall": 2 / 3, "f1": 4 / 7, "tag_accuracy": 4 / 6})
    assert numbers.entities_by_type(predictions, references)["group"] == pytest.approx(
        {"precision": 0.5, "recall": 1.0, "f1": 2 / 3, "number": 1.0}
    )


@pytest.mark.parametrize("predicted", ["O", "B-person"])
def test_a_model_that_always_says_the_same_gives_no_nan(predicted: str) -> None:
    found = numbers.entities([[predicted] * 3], [["O", "O", "B-group"]])
    assert (found["precision"], found["recall"], found["f1"]) == (0.0, 0.0, 0.0)
    assert numbers.entities([["O"]], [["O"]])["f1"] == 0.0
    assert numbers.entities_by_type([["O"]], [["O"]]) == {}


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="0 words"):
        numbers.entities([], [])
    with pytest.raises(ValueError, match="sentence 1 has 1 and 2 tags"):
        numbers.entities([["O"], ["O"]], [["O"], ["O", "O"]])
    with pytest.raises(ValueError, match="got 1 and 2 sentences"):
        numbers.entities_by_type([["O"]], [["O"], ["O"]])
