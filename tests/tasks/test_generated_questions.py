from __future__ import annotations

from typing import Any

import pytest

from hf_distill.tasks.generated_questions import GeneratedQuestions, kinds

COLUMNS = ["context", "question", "answers", "id", "title"]


def rows_of(split: str = "train", **fields: Any) -> list[dict[str, Any]]:
    table = GeneratedQuestions(rows=200, validation_rows=50, **fields).read(split, COLUMNS)
    return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*(table.columns[c] for c in COLUMNS), strict=True)]


def test_an_answer_is_where_the_context_says_it() -> None:
    for row in rows_of():
        (text,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
        context = row["context"]
        assert context[start : start + len(text)] == text
        person = next(name for name in row["title"].split(", ") if name in row["question"])
        told = context[: start + len(text)].rsplit(". ", 1)[-1]
        assert told.startswith(person), row["question"]


def test_the_kind_of_fact_alone_does_not_tell_the_answer() -> None:
    """Some contexts must tell the same kind of fact about two people, or nobody need look at the name."""
    told = [kind.told.format("", "") for kind in kinds()]
    beginnings = [text.split(".")[0].strip() for text in told]
    doubled = sum(any(row["context"].count(f" {text}") > 1 for text in beginnings) for row in rows_of())
    assert 50 < doubled <= 200


def test_rows_do_not_depend_on_how_many_there_are() -> None:
    assert rows_of()[:10] == rows_of()[:10]
    few = GeneratedQuestions(rows=10).read("train", ["context"]).columns["context"]
    assert few == [row["context"] for row in rows_of()[:10]]


def test_held_out_rows_are_not_those_trained_on() -> None:
    contexts = [{row["context"] for row in rows_of(split)} for split in ("train", "validation", "test")]
    assert [len(found) for found in contexts] == [200, 50, 50]
    assert not contexts[0] & contexts[1]
    assert not contexts[1] & contexts[2]
    assert not contexts[0] & {row["context"] for row in rows_of(seed=1)}


def test_few_names_are_kept_to() -> None:
    assert {name for row in rows_of(names=4) for name in row["title"].split(", ")} == {"Ada", "Bo", "Cleo", "Dan"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"facts": 16}, "3 people have 1 to 15 facts, got 16"),
        ({"people": 5, "names": 4}, "got 5 of 4 names"),
        ({"names": 99}, "got 3 of 99 names"),
        ({"rows": 0}, "expected at least 1, got 0"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneratedQuestions(**fields)
