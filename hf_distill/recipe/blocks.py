"""Blocks that stand in several places of a recipe, checked alike: models, training arguments, names, seeds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from hf_distill.strict_dataclass import check_known_keys
from hf_distill.wording import given, join_path

_FRESH_MODEL = ("architecture", "config")
_PRETRAINED_MODEL = ("pretrained", "revision", "dtype", "trust_remote_code")
MODEL_KEYS = (*_FRESH_MODEL, *_PRETRAINED_MODEL)
FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
"""What a label may be that names a folder."""
_LARGEST_SEED = 2**32 - 1
_IN_RECORD = "recipes are kept in records and published; log in with `hf auth login` or set HF_TOKEN instead"
_ELSEWHERE = {
    "output_dir": "use the recipe's top-level `output_dir`; every student gets its own folder below it",
    "seed": "use the top-level `seeds` for students and `teacher.train.seed` for the teacher",
    "data_seed": "use the top-level `seeds` for students and `teacher.train.seed` for the teacher",
    "curriculum": "use the top-level `curriculum` or `compare`",
    "resume_from_checkpoint": "a run that is stopped and started again goes on by itself",
    "hub_token": _IN_RECORD,
    "push_to_hub_token": _IN_RECORD,
}


def check_model(model: Mapping[str, Any], path: str) -> None:
    """Refuse a `model:` block that is neither a fresh model nor a trained one.

    Raises:
        ValueError: Both or neither are given, an unknown key, or a key of the other kind.
    """
    check_known_keys(model, MODEL_KEYS, path=path)
    check_free(model, path)
    kinds = [key for key in ("architecture", "pretrained") if key in model]
    if len(kinds) != 1:
        raise ValueError(
            f"{path}: give either `architecture` (a fresh model, with `config`) or `pretrained` (a repository or "
            f"folder, with `revision`), got {' and '.join(kinds) or 'neither'}."
        )
    kind = kinds[0]
    if not isinstance(model[kind], str) or not model[kind].strip():
        raise ValueError(f"{path}.{kind}: expected text, got {given(model[kind])}.")
    for stray in set(model) - set(_FRESH_MODEL if kind == "architecture" else _PRETRAINED_MODEL):
        raise ValueError(f"{path}.{stray}: does not go with `{kind}`; remove it.")


def check_training(training: Mapping[str, Any], path: str) -> None:
    """Refuse what stands elsewhere in a recipe, or nowhere, among training arguments.

    Raises:
        ValueError: Such a key; the message says where it goes.
    """
    for key, instead in _ELSEWHERE.items():
        if key in training:
            raise ValueError(f"{path}.{key}: not here; {instead}.")
    check_free(training, path)


def check_seed(seed: int, path: str) -> None:
    """Refuse a seed that random generators do not take.

    Raises:
        ValueError: It is negative or has more than 32 bits.
    """
    require(0 <= seed <= _LARGEST_SEED, f"{path}: expected an int from 0 to {_LARGEST_SEED}, got {seed}.")


def check_name(mapping: Mapping[str, Any], path: str) -> None:
    """Refuse a task or curriculum without a name.

    Raises:
        ValueError: `name` is missing or no text.
    """
    name = mapping.get("name")
    if not isinstance(name, str) or not name.strip():
        kind = "task" if path == "task" else "curriculum"
        raise ValueError(f"{path}.name: expected the name of a {kind}, got {given(name)}.")


def check_free(value: Any, path: str) -> None:
    """Refuse what would not come back equal from YAML and JSON, in the blocks without a dataclass of their own.

    Raises:
        ValueError: A number that is not finite, a key that is no text, or an object.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            require(isinstance(key, str), f"{path}: the key {key!r} is not text; put it in quotes.")
            check_free(item, join_path(path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check_free(item, f"{path}[{index}]")
    elif isinstance(value, float):
        require(math.isfinite(value), f"{path}: expected a finite number, got {value}.")
    elif value is not None and not isinstance(value, (bool, int, str)):
        raise ValueError(
            f"{path}: expected text, a number, true/false, null, a list or a mapping, got {given(value)}."
        )


def require(condition: bool, message: str) -> None:
    """Refuse with a message unless a condition holds.

    Raises:
        ValueError: It does not.
    """
    if not condition:
        raise ValueError(message)
