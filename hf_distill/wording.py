"""Words for error messages: the nearest known name, a type as a recipe's author knows it, what was given instead."""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import reprlib
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, Union

SEQUENCES = (list, collections.abc.Sequence)
MAPPINGS = (dict, collections.abc.Mapping)
_TYPE_WORDS = {
    None: "null",
    type(None): "null",
    bool: "true/false",
    str: "text",
    Path: "path",
    Any: "anything",
    object: "anything",
}
_VALUE_WORDS = {str: "text", int: "int", float: "float", list: "list", tuple: "list", dict: "mapping"}


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest known name and a space before it, or the empty text where none is near."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, n=1, cutoff=0.6)
    return f" Did you mean `{names[near[0]]}`?" if near else ""


def type_text(kind: Any) -> str:
    """Return an annotation in the words of a recipe: "int or null", "'mean' or 'sum'", "list of float"."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if is_union(kind):
        return " or ".join(type_text(member) for member in arguments)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in arguments)
    if (origin or kind) in (*SEQUENCES, tuple):
        inner = ", ".join(type_text(argument) for argument in arguments if argument is not Ellipsis)
        return f"list of {inner}" if inner else "list"
    if (origin or kind) in MAPPINGS or dataclasses.is_dataclass(kind):
        return "mapping"
    if kind in _TYPE_WORDS:
        return _TYPE_WORDS[kind]
    return kind.__name__ if isinstance(kind, type) else str(kind)


def given(value: Any) -> str:
    """Return a short form of a value that was given, with its kind: "'abc' (text)", "3 (int)", "null"."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{reprlib.repr(value)} ({_VALUE_WORDS.get(type(value), type(value).__name__)})"


def join_path(path: str, key: str) -> str:
    """Return the dotted path of `key` inside `path`, which is empty at the top."""
    return f"{path}.{key}" if path else key


def is_union(kind: Any) -> bool:
    """Whether an annotation is `A | B`, Optional or Union."""
    return typing.get_origin(kind) in (Union, types.UnionType)
