from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional, Union

import pytest

from hf_distill.wording import did_you_mean, given, is_union, join_path, type_text


@dataclass
class Block:
    size: int = 1


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, "int"),
        (bool, "true/false"),
        (str, "text"),
        (Path, "path"),
        (Any, "anything"),
        (object, "anything"),
        (None, "null"),
        (Optional[int], "int or null"),  # noqa: UP045
        (Union[int, float], "int or float"),  # noqa: UP007
        (int | None, "int or null"),
        (Literal["mean", 2], "'mean' or 2"),
        (list, "list"),
        (list[float], "list of float"),
        (tuple[int, ...], "list of int"),
        (tuple[int, str], "list of int, text"),
        (Sequence[str], "list of text"),
        (dict[str, int], "mapping"),
        (Mapping[str, Any], "mapping"),
        (Block, "mapping"),
    ],
)
def test_no_python_jargon_reaches_the_author_of_a_recipe(kind: Any, text: str) -> None:
    assert type_text(kind) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (3, "3 (int)"),
        (0.5, "0.5 (float)"),
        ("3", "'3' (text)"),
        ([1], "[1] (list)"),
        ((1,), "(1,) (list)"),
        ({"a": 1}, "{'a': 1} (mapping)"),
    ],
)
def test_a_number_and_its_text_look_different_in_a_message(value: Any, text: str) -> None:
    assert given(value) == text


def test_a_huge_value_does_not_bury_the_message() -> None:
    assert len(given("x" * 10_000)) < 60
    assert len(given(list(range(10_000)))) < 60


@pytest.mark.parametrize("word", ["levle", "LEVEL", "leve"])
def test_a_misspelt_word_finds_its_neighbour(word: str) -> None:
    assert did_you_mean(word, iter(["metric", "level"])) == " Did you mean `level`?"


def test_a_far_word_gets_no_misleading_hint() -> None:
    assert did_you_mean("curriculum", ["seed", "level"]) == ""
    assert did_you_mean("x", []) == ""


def test_the_top_level_has_no_leading_dot() -> None:
    assert join_path("", "a") == "a"
    assert join_path("a.b", "c") == "a.b.c"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(int | None, True), (Optional[int], True), (int, False), (list[int], False)],  # noqa: UP045
)
def test_both_spellings_of_a_union_are_seen(kind: Any, expected: bool) -> None:
    assert is_union(kind) is expected
