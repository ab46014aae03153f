from __future__ import annotations

from typing import Any

import pytest

from hf_distill.recipe.overrides import apply_overrides

BASE: dict[str, Any] = {
    "training": {"learning_rate": 0.1},
    "seeds": [0, 1],
    "list": [{"a": 1}],
    "empty": [],
    "none": None,
}


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("training.learning_rate=1e-3", ("training", "learning_rate"), 1e-3),
        ("training.report_to=none", ("training", "report_to"), "none"),
        ("seeds=[0, 3]", ("seeds",), [0, 3]),
        ("seeds.1=7", ("seeds", 1), 7),
        ("seeds[1]=7", ("seeds", 1), 7),
        ("list[0].a=2", ("list", 0, "a"), 2),
        ("training={a: {b: 1}}", ("training",), {"a": {"b": 1}}),
        ("training=null", ("training",), None),
        ("training=", ("training",), None),
        ("new.block.key=x=y", ("new", "block", "key"), "x=y"),
        ("none.key=1", ("none", "key"), 1),
        (" training.max_steps = 3 ", ("training", "max_steps"), 3),
        ("name='1'", ("name",), "1"),
    ],
)
def test_the_value_arrives_where_the_key_points(override: str, path: tuple[Any, ...], value: Any) -> None:
    found: Any = apply_overrides(BASE, [override])
    for step in path:
        found = found[step]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds", "--set seeds: expected key=value, for example --set training.max_steps=100"),
        ("=3", "expected key=value"),
        ("a..b=3", "expected key=value"),
        (".a=3", "expected key=value"),
        ("a[x]=3", "expected key=value"),
        ("seeds.2=3", "`2` is no item of the list; give an index from 0 to 1"),
        ("seeds.x=3", "`x` is no item of the list"),
        ("empty[0]=3", "give the whole list, which is empty"),
        ("training.learning_rate.x=3", r"`training\.learning_rate` is 0\.1 \(float\), which has no `x` in it"),
        ("seeds.0.x=3", r"`seeds\.0` is 0 \(int\), which has no `x`"),
        ("a=[1", "value '\\[1', line 1, column"),
        ("a={b: 1, b: 2}", "duplicate key `b`"),
    ],
)
def test_an_override_that_cannot_be_applied_says_why(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply_overrides(BASE, [override])


def test_later_overrides_see_earlier_ones() -> None:
    changed = apply_overrides({}, ["a={b: 1}", "a.c=2", "a.b=3"])
    assert changed == {"a": {"b": 3, "c": 2}}


def test_the_data_given_stays_as_it_was() -> None:
    base = {"seeds": [0, 1], "training": {"a": 1}}
    apply_overrides(base, ["seeds[0]=5", "training.a=2"])
    assert base == {"seeds": [0, 1], "training": {"a": 1}}
