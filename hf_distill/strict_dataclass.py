"""Dataclasses from plain mappings, and back: unknown keys, missing keys and wrong types are errors that name the key.

Recipes, tasks, schedules, objectives and curricula are all read through `from_mapping`.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from hf_distill.wording import MAPPINGS, SEQUENCES, did_you_mean, given, is_union, join_path, type_text

T = TypeVar("T")

_MOST_LISTED, _NEAREST = 40, 6
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


class FieldHelp(NamedTuple):
    """One line of help on a dataclass field: its name, its type, its default ("required" without one), what it is."""

    name: str
    type: str
    default: str
    help: str


def from_mapping(cls: type[T], mapping: Mapping[str, Any], *, path: str = "") -> T:
    """Build the dataclass `cls` from `mapping`, checking every key and every value against the annotations.

    Understood annotations: int, float, bool, str, None, Any, Path, Optional and unions, Literal, list, tuple, dict,
    Sequence, Mapping and nested dataclasses. An int is taken for a float, never a bool for an int. Text that spells a
    number is taken for a float, because YAML 1.1 reads `1e-3` (no dot) as text. Numbers are finite. Containers are
    copied.

    Args:
        cls: A dataclass.
        mapping: Its fields by name. Fields with `init=False` cannot be given.
        path: Where the mapping stands in the whole, e.g. "teacher.train"; put before the keys in messages.

    Raises:
        ValueError: An unknown or missing key, a wrong type, or what the class's `__post_init__` refuses; the message
            begins with the full key path.
        TypeError: `cls` is no dataclass or is annotated with something else than the above (a mistake in the class).
    """
    if not isinstance(mapping, Mapping):
        raise ValueError(f"{path or cls.__name__}: expected a mapping of keys to values, got {given(mapping)}.")
    known = _init_fields(cls)
    check_known_keys(mapping, known, path=path)
    hints = typing.get_type_hints(cls)
    values = {}
    for name, field in known.items():
        if name in mapping:
            values[name] = convert(mapping[name], hints[name], path=join_path(path, name))
        elif _is_required(field):
            raise ValueError(_missing_key(field, hints[name], join_path(path, name)))
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from error


def to_mapping(instance: Any) -> dict[str, Any]:
    """Return the plain dict (all fields, nested dataclasses too) from which `from_mapping` builds an equal instance.

    Raises:
        ValueError: A field holds something that is no text, number, true/false, null, path, list or mapping.
    """
    return _plain_fields(instance, "")


def describe(cls: type) -> list[FieldHelp]:
    """Return type, default and `metadata["help"]` of the fields of a dataclass, in order of declaration."""
    hints = typing.get_type_hints(cls)
    return [
        FieldHelp(name, type_text(hints[name]), _default_text(field), field.metadata.get("help", ""))
        for name, field in _init_fields(cls).items()
    ]


def check_known_keys(keys: Iterable[Any], known: Iterable[str], *, path: str = "") -> None:
    """Refuse the first of `keys` that is not among `known`.

    Raises:
        ValueError: The message begins with the key's full path and names the nearest known key.
    """
    known = list(known)
    for key in keys:
        if not isinstance(key, str):
            raise ValueError(f"{path or 'top level'}: the key {key!r} is not text. {_accepted(known, str(key))}")
        if key not in known:
            hint = did_you_mean(key, known)
            raise ValueError(f"{join_path(path, key)}: unknown key.{hint} {_accepted(known, key)}")


def _accepted(known: Sequence[str], key: str) -> str:
    if len(known) <= _MOST_LISTED:
        return f"Keys accepted here: {', '.join(known) or 'none'}."
    near = difflib.get_close_matches(key, known, n=_NEAREST, cutoff=0.0)
    return f"Of the {len(known)} keys accepted here, these are nearest: {', '.join(near)}."


def convert(value: Any, kind: Any, *, path: str) -> Any:
    """Return `value` as the annotation `kind` wants it, by the rules of `from_mapping`.

    Raises:
        ValueError: The value does not fit; the message begins with `path`.
        TypeError: Values of this annotation cannot be read from plain data.
    """
    arguments, base = typing.get_args(kind), typing.get_origin(kind) or kind
    if is_union(kind):
        return _convert_union(value, arguments, kind, path)
    if base is Literal:
        return _convert_literal(value, arguments, path)
    if base is tuple:
        return _convert_tuple(value, arguments, kind, path)
    if base in SEQUENCES:
        return list(_convert_tuple(value, (*(arguments or (Any,)), Ellipsis), kind, path))
    if base in MAPPINGS:
        return _convert_dict(value, arguments or (Any, Any), kind, path)
    if isinstance(base, type) and dataclasses.is_dataclass(base):
        return value if isinstance(value, base) else from_mapping(base, value, path=path)
    if base not in _SCALARS:
        raise TypeError(f"{path}: fields annotated {kind!r} cannot be read from a mapping.")
    return _SCALARS[base](value, path)


def _convert_union(value: Any, members: tuple[Any, ...], kind: Any, path: str) -> Any:
    # Members of the value's own type first: in `int | float`, 3 stays an int, and in `float | str`, "1e-3" stays text.
    candidates = [member for member in members if _same_kind(value, member)] or list(members)
    if len(candidates) == 1:
        return convert(value, candidates[0], path=path)
    for member in candidates:
        try:
            return convert(value, member, path=path)
        except ValueError:
            continue
    raise _wrong_type(value, kind, path)


def _same_kind(value: Any, kind: Any) -> bool:
    base = typing.get_origin(kind) or kind
    if base is Literal:
        return any(_is_choice(value, choice) for choice in typing.get_args(kind))
    if dataclasses.is_dataclass(base) or base in MAPPINGS:
        return isinstance(value, Mapping)
    if base in (*SEQUENCES, tuple):
        return isinstance(value, (list, tuple))
    return base is Any or type(value) is base


def _is_choice(value: Any, choice: Any) -> bool:
    return type(value) is type(choice) and value == choice


def _convert_literal(value: Any, choices: tuple[Any, ...], path: str) -> Any:
    if any(_is_choice(value, choice) for choice in choices):
        return value
    hint = did_you_mean(value, filter(lambda c: isinstance(c, str), choices)) if isinstance(value, str) else ""
    raise ValueError(f"{path}: expected {' or '.join(map(repr, choices))}, got {given(value)}.{hint}")


def _convert_tuple(value: Any, arguments: tuple[Any, ...], kind: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _wrong_type(value, kind, path, hint=" Write it in square brackets.")
    if not arguments or arguments[-1] is Ellipsis:
        arguments = (arguments[0] if arguments else Any,) * len(value)
    if len(value) != len(arguments):
        raise ValueError(f"{path}: expected {len(arguments)} values ({type_text(kind)}), got {len(value)}.")
    pairs = zip(value, arguments, strict=True)
    return tuple(convert(item, inner, path=f"{path}[{index}]") for index, (item, inner) in enumerate(pairs))


def _convert_dict(value: Any, arguments: tuple[Any, ...], kind: Any, path: str) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _wrong_type(value, kind, path)
    keys = [convert(key, arguments[0], path=f"{path}, key {key!r}") for key in value]
    items = [convert(item, arguments[1], path=join_path(path, str(key))) for key, item in value.items()]
    return dict(zip(keys, items, strict=True))


def _as_bool(value: Any, path: str) -> bool:
    if isinstance(value, bool):
        return value
    raise _wrong_type(value, bool, path, hint=" Write true or false, without quotes.")


def _as_int(value: Any, path: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    whole = isinstance(value, float) and value.is_integer()
    raise _wrong_type(value, int, path, hint=f" Write {int(value)}." if whole else "")


def _as_float(value: Any, path: str) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _wrong_type(value, float, path)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{path}: expected a finite number that fits a float, got {given(value)}.")
    return number


def _as_str(value: Any, path: str) -> str:
    if isinstance(value, str):
        return value
    scalar = isinstance(value, (bool, int, float))
    raise _wrong_type(value, str, path, hint=" Put it in quotes to make it text." if scalar else "")


def _as_path(value: Any, path: str) -> Path:
    return value if isinstance(value, Path) else Path(_as_str(value, path))


def _as_none(value: Any, path: str) -> None:
    if value is not None:
        raise _wrong_type(value, None, path)


def _as_anything(value: Any, path: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_anything(item, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_anything(item, path) for item in value]
    return value


_SCALARS: dict[Any, Callable[[Any, str], Any]] = {
    bool: _as_bool,
    int: _as_int,
    float: _as_float,
    str: _as_str,
    Path: _as_path,
    type(None): _as_none,
    Any: _as_anything,
    object: _as_anything,
}


def _init_fields(cls: Any) -> dict[str, dataclasses.Field[Any]]:
    return {field.name: field for field in dataclasses.fields(cls) if field.init}


def _plain_fields(instance: Any, path: str) -> dict[str, Any]:
    return {name: _plain(getattr(instance, name), join_path(path, name)) for name in _init_fields(instance)}


def _plain(value: Any, path: str) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain_fields(value, path)
    if isinstance(value, Mapping):
        return {key: _plain(item, join_path(path, str(key))) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{path}[{index}]") for index, item in enumerate(value)]
    raise ValueError(f"{path}: a {type(value).__name__} has no plain form; expected text, numbers, lists or mappings.")


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _default_text(field: dataclasses.Field[Any]) -> str:
    if _is_required(field):
        return "required"
    factory = field.default_factory
    default = field.default if factory is dataclasses.MISSING else factory()
    return json.dumps(_plain(default, field.name), ensure_ascii=False)


def _missing_key(field: dataclasses.Field[Any], kind: Any, path: str) -> str:
    explanation = field.metadata.get("help", "")
    return f"{path}: missing; expected {type_text(kind)}" + (f" ({explanation.rstrip('.')})." if explanation else ".")


def _wrong_type(value: Any, kind: Any, path: str, hint: str = "") -> ValueError:
    return ValueError(f"{path}: expected {type_text(kind)}, got {given(value)}.{hint}")
