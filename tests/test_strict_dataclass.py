from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.recipe.strict_yaml import dump_yaml, load_yaml
from hf_distill.strict_dataclass import FieldHelp, check_known_keys, convert, describe, from_mapping, to_mapping


@dataclass(kw_only=True)
class Stop:
    metric: Literal["accuracy", "loss"]
    level: float = field(default=0.5, metadata={"help": "Stop here."})


@dataclass(kw_only=True)
class Block:
    count: int
    rate: float = 0.1
    flag: bool = False
    name: str = "x"
    folder: Path = Path("a")
    steps: int | float = 3
    auto: float | Literal["auto"] = "auto"
    text_or_number: str | float = 0.0
    stop: Stop | None = None
    pair: tuple[int, float] = (1, 2.0)
    many: tuple[int, ...] = ()
    names: list[str] = field(default_factory=list)
    lengths: Sequence[int] = ()
    rates: dict[str, float] = field(default_factory=dict)
    anything: Mapping[str, Any] = field(default_factory=dict)
    stops: list[Stop] = field(default_factory=list)
    old_style: Optional[int] = None  # noqa: UP045
    derived: int = field(init=False, default=7)


@dataclass(kw_only=True)
class Even:
    size: int

    def __post_init__(self) -> None:
        if self.size % 2:
            raise ValueError(f"size must be even, got {self.size}")


@dataclass(kw_only=True)
class Outer:
    inner: Even
    either: int | Stop | list[int] = 1


@pytest.mark.parametrize(
    ("given_value", "kind", "expected"),
    [
        (3, float, 3.0),
        ("1e-3", float, 1e-3),
        (" 5E-4 ", float, 5e-4),
        (".5", float, 0.5),
        (3, int | float, 3),
        (0.5, int | float, 0.5),
        ("1e-3", int | float, 1e-3),
        ("1e-3", str | float, "1e-3"),
        ("1e-3", float | str, "1e-3"),
        (3, float | None, 3.0),
        (None, float | None, None),
        ("auto", float | Literal["auto"], "auto"),
        ([1, 2], tuple[int, ...], (1, 2)),
        ((1, 2), list[int], [1, 2]),
        ([1, 2], tuple[int, float], (1, 2.0)),
        ([1], list, [1]),
        ([1], tuple, (1,)),
        ({"a": 1}, dict[str, float], {"a": 1.0}),
        ({"a": 1}, dict, {"a": 1}),
        ({0.5: 1}, dict[float, int], {0.5: 1}),
        ("a/b", Path, Path("a/b")),
        ({"metric": "loss"}, Stop | None, Stop(metric="loss")),
        (Stop(metric="loss"), Stop, Stop(metric="loss")),
    ],
)
def test_a_value_gets_the_type_that_is_annotated(given_value: Any, kind: Any, expected: Any) -> None:
    converted = convert(given_value, kind, path="x")
    assert converted == expected
    assert type(converted) is type(expected)


@pytest.mark.parametrize(
    ("given_value", "kind", "message"),
    [
        (True, int, "expected int, got true"),
        (True, float, "expected float, got true"),
        (True, int | float, "expected int or float, got true"),
        (1, bool, r"expected true/false, got 1 \(int\)\. Write true or false"),
        ("true", bool, "expected true/false, got 'true'"),
        (1e3, int, r"expected int, got 1000\.0 \(float\)\. Write 1000\."),
        ("3", int, r"expected int, got '3' \(text\)"),
        (3, str, r"expected text, got 3 \(int\)\. Put it in quotes"),
        (None, int, "expected int, got null"),
        (3, Path, "expected path|expected text"),
        ("abc", float, r"expected float, got 'abc' \(text\)"),
        ("nan", float, "expected float, got 'nan'"),
        (math.nan, float, "expected a finite number"),
        (math.inf, float | None, "expected a finite number"),
        ("1e999", float, "expected a finite number"),
        (10**400, float, "expected a finite number"),
        ("accurcy", Literal["accuracy", "loss"], r"expected 'accuracy' or 'loss', got .* Did you mean `accuracy`\?"),
        (True, Literal[1, 2], "expected 1 or 2, got true"),
        ("abc", list[str], r"expected list of text, got 'abc' \(text\)\. Write it in square brackets"),
        ([1], tuple[int, int], r"expected 2 values \(list of int, int\), got 1"),
        ([1, "a"], list[int], r"^x\[1\]: expected int"),
        ({"a": "b"}, dict[str, int], r"^x\.a: expected int"),
        ({3: 1}, dict[str, int], "^x, key 3: expected text"),
        ([1], dict[str, int], "expected mapping, got"),
        (4, Stop | None, "expected mapping or null, got 4"),
    ],
)
def test_a_wrong_value_says_what_was_expected_and_given(given_value: Any, kind: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        convert(given_value, kind, path="x")
    assert str(caught.value).startswith("x")


def test_a_misspelt_key_deep_inside_is_named_by_its_whole_path() -> None:
    mapping = {"count": 1, "stop": {"metric": "loss", "levle": 1}}
    with pytest.raises(
        ValueError, match=r"^teacher\.train\.stop\.levle: unknown key\. Did you mean `level`\?.*metric"
    ):
        from_mapping(Block, mapping, path="teacher.train")


def test_a_wrong_value_in_a_list_of_blocks_is_named_by_its_index() -> None:
    with pytest.raises(ValueError, match=r"^stops\[1\]\.metric: missing; expected 'accuracy' or 'loss'"):
        from_mapping(Block, {"count": 1, "stops": [{"metric": "loss"}, {}]})


def test_an_error_inside_a_union_is_not_flattened_to_the_unions_name() -> None:
    with pytest.raises(ValueError, match=r"^either\.level: expected float"):
        from_mapping(Outer, {"inner": {"size": 2}, "either": {"metric": "loss", "level": "high"}})
    with pytest.raises(ValueError, match=r"^either\[0\]: expected int"):
        from_mapping(Outer, {"inner": {"size": 2}, "either": ["a"]})


def test_a_missing_key_says_what_it_is_for() -> None:
    @dataclass(kw_only=True)
    class Needs:
        width: int = field(metadata={"help": "Hidden units."})

    with pytest.raises(ValueError, match=r"^model\.width: missing; expected int \(Hidden units\)\.$"):
        from_mapping(Needs, {}, path="model")


def test_what_a_class_refuses_by_itself_is_prefixed_once_with_its_path() -> None:
    with pytest.raises(ValueError, match=r"^task\.inner: size must be even, got 3$"):
        from_mapping(Outer, {"inner": {"size": 3}}, path="task")


def test_a_derived_field_cannot_be_given() -> None:
    with pytest.raises(ValueError, match=r"^derived: unknown key"):
        from_mapping(Block, {"count": 1, "derived": 3})


@pytest.mark.parametrize("given_value", [None, [], "text", 3])
def test_something_else_than_a_mapping_is_refused(given_value: Any) -> None:
    with pytest.raises(ValueError, match="expected a mapping of keys to values"):
        from_mapping(Block, given_value, path="teacher")


def test_a_key_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^top level: the key 1 is not text"):
        check_known_keys([1], ["a"])


def test_a_mistake_in_the_class_is_no_mistake_of_the_recipe() -> None:
    @dataclass(kw_only=True)
    class Odd:
        odd: set[int]

    with pytest.raises(TypeError, match="cannot be read from a mapping"):
        from_mapping(Odd, {"odd": [1]})


def test_the_callers_mapping_is_neither_changed_nor_shared() -> None:
    mapping = {"count": 1, "names": ["a"], "anything": {"deep": {"list": [1]}}}
    block = from_mapping(Block, mapping)
    block.names.append("b")
    block.anything["deep"]["list"].append(2)
    assert mapping == {"count": 1, "names": ["a"], "anything": {"deep": {"list": [1]}}}


def test_help_lists_type_default_and_meaning_of_each_field() -> None:
    assert describe(Stop) == [
        FieldHelp("metric", "'accuracy' or 'loss'", "required", ""),
        FieldHelp("level", "float", "0.5", "Stop here."),
    ]
    by_name = {line.name: line for line in describe(Block)}
    assert by_name["stop"].default == "null"
    assert by_name["auto"].default == '"auto"'
    assert by_name["names"] == FieldHelp("names", "list of text", "[]", "")
    assert "derived" not in by_name


def test_a_field_without_plain_form_is_named() -> None:
    block = Block(count=1, anything={"model": object()})
    with pytest.raises(ValueError, match=r"^anything\.model: a object has no plain form"):
        to_mapping(block)


FINITE = st.floats(allow_nan=False, allow_infinity=False)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
STOPS = st.builds(Stop, metric=st.sampled_from(["accuracy", "loss"]), level=FINITE)
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(), FINITE, WORDS)
BLOCKS = st.builds(
    Block,
    count=st.integers(),
    rate=FINITE,
    flag=st.booleans(),
    name=WORDS,
    steps=st.integers() | FINITE,
    auto=FINITE | st.just("auto"),
    text_or_number=WORDS | FINITE,
    stop=st.none() | STOPS,
    pair=st.tuples(st.integers(), FINITE),
    many=st.lists(st.integers(), max_size=3).map(tuple),
    names=st.lists(WORDS, max_size=3),
    lengths=st.lists(st.integers(), max_size=3),
    rates=st.dictionaries(WORDS, FINITE, max_size=3),
    anything=st.dictionaries(WORDS, PLAIN | st.lists(PLAIN, max_size=2), max_size=3),
    stops=st.lists(STOPS, max_size=2),
    old_style=st.none() | st.integers(),
)


@settings(derandomize=True, deadline=None)
@given(BLOCKS)
def test_yaml_to_dataclass_to_yaml_is_a_fixed_point(block: Block) -> None:
    text = dump_yaml(to_mapping(block))
    again = from_mapping(Block, load_yaml(text, source="x"))
    assert again == block
    assert dump_yaml(to_mapping(again)) == text
