"""`--set key=value`: changes to a recipe's plain data, before it is checked."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from typing import Any

from hf_distill.recipe.strict_yaml import yaml_scalar
from hf_distill.wording import given

_KEY = re.compile(r"[^.\[\]]+(\.[^.\[\]]+|\[\d+\])*")


def apply_overrides(mapping: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of `mapping` with the overrides applied in order.

    A key is a path of names, `training.max_steps`; an item of a list is `seeds.0` or `seeds[0]`. A value is YAML:
    `1e-3`, `[0, 1]`, `{a: 1}`, `null` (which takes an optional block away). Missing blocks on the way are made; a
    misspelt name is left for the recipe's own check to find.

    Args:
        mapping: The recipe's data.
        overrides: Texts `key=value`.

    Raises:
        ValueError: No `=`, no key, a value that is no YAML, an index out of range, or a path through a plain value.
    """
    changed = copy.deepcopy(dict(mapping))
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals or not _KEY.fullmatch(key):
            raise ValueError(f"--set {override}: expected key=value, for example --set training.max_steps=100.")
        value = yaml_scalar(text.strip())
        _set(changed, re.findall(r"[^.\[\]]+", key), value, override=override)
    return changed


def _set(container: Any, names: list[str], value: Any, *, override: str) -> None:
    for depth, name in enumerate(names):
        last = depth == len(names) - 1
        place: Any = name
        if isinstance(container, list):
            place = _index(name, container, override=override)
        elif not isinstance(container, dict):
            way = ".".join(names[:depth])
            raise ValueError(f"--set {override}: `{way}` is {given(container)}, which has no `{name}` in it.")
        elif not last and container.get(name) is None:
            container[name] = {}
        if last:
            container[place] = value
        else:
            container = container[place]


def _index(name: str, container: list[Any], *, override: str) -> int:
    if not name.isdecimal() or int(name) >= len(container):
        there = f"an index from 0 to {len(container) - 1}" if container else "the whole list, which is empty"
        raise ValueError(f"--set {override}: `{name}` is no item of the list; give {there}.")
    return int(name)
