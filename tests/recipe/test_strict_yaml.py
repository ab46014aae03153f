from __future__ import annotations

import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.recipe.strict_yaml import dump_yaml, load_yaml, yaml_scalar

# No surrogates: they are not Unicode text and no encoding of a file holds them.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TRAPS = st.sampled_from(
    ["1e-3", "1E5", "on", "no", "~", "null", "2024-01-01", "1:30", "010", "0x1F", "=", "<<", "1_0", ""]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT, TRAPS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | TRAPS, inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("5E-4", 5e-4),
        ("1e5", 1e5),
        ("-2.5e+3", -2500.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        ("3", 3),
        ("-3", -3),
        ("+3", 3),
        ("0", 0),
        ("1_000", 1000),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("[0, 1]", [0, 1]),
        ("{a: 1e-3}", {"a": 1e-3}),
    ],
)
def test_numbers_are_numbers(text: str, value: Any) -> None:
    parsed = yaml_scalar(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    "text", ["on", "off", "yes", "no", "y", "1:30", "010", "0x1F", "2024-01-01", "=", "e5", "1e", "."]
)
def test_words_that_yaml_1_1_turns_into_something_else_stay_text(text: str) -> None:
    assert yaml_scalar(text) == text
    assert load_yaml(f"{{{text}: 1}}", source="x") == {text: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: duplicate key `a`, first given on line 1"),
        ("{a: 1, a: 2}", "line 1, column 8: duplicate key `a`, first given on line 1"),
        ("x:\n  a: 1\n  'a': 2", "line 3, column 3: duplicate key `a`"),
        ("a: [1\nb: 2", "line 2, column 2: .*expected ',' or ']'"),
        ("a:\n\t- b", r"line 2, column 1: .*indent with spaces"),
        ("a: &x [*x]", "line 1, column 4: found unconstructable recursive node"),
        ("&x {a: *x}", "line 1, column 1: found unconstructable recursive node"),
        ("a: *missing", "line 1, column 4: found undefined alias"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor for the tag"),
        ("a: !!set {b}", "could not determine a constructor for the tag"),
        ("a: !!timestamp 2024-01-01", "could not determine a constructor for the tag"),
        ("? [1]\n: 2", "keys must be text"),
        ("a: 1\n---\nb: 2", "line 2, column 1: expected a single document"),
        ("a: b: c", "line 1, column 5: mapping values are not allowed here"),
        ("a\0b", "cannot be read as YAML"),
    ],
)
def test_a_mistake_is_reported_with_file_and_place(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load_yaml(text, source="my.yaml")
    assert str(caught.value).startswith("my.yaml")


def test_a_merged_key_may_be_overridden() -> None:
    text = "base: &base {a: 1, b: 2}\nmore: {<<: *base, b: 3}\nmost: {<<: *base, a: 4}"
    expected = {"base": {"a": 1, "b": 2}, "more": {"a": 1, "b": 3}, "most": {"a": 4, "b": 2}}
    assert load_yaml(text, source="x") == expected


def test_reading_strictly_leaves_pyyaml_as_it_was() -> None:
    assert yaml.safe_load("[on, 1e-3]") == [True, "1e-3"]


@settings(derandomize=True, deadline=None)
@given(VALUES)
def test_what_is_written_reads_back_equal(value: Any) -> None:
    text = dump_yaml(value)
    again = load_yaml(text, source="x")
    assert again == value
    assert dump_yaml(again) == text


@settings(derandomize=True, deadline=None)
@given(VALUES)
def test_other_programs_read_the_same_text(value: Any) -> None:
    assert yaml.safe_load(dump_yaml(value)) == value


def test_shared_blocks_are_written_out_not_as_aliases() -> None:
    shared = {"width": 32}
    assert dump_yaml({"a": shared, "b": shared}) == "a:\n  width: 32\nb:\n  width: 32\n"
