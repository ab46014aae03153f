"""What must not be published: access tokens, and paths of the machine that a run was made on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

BLANK = "***"

# Not the special tokens of a tokenizer, such as pad_token.
_SPECIAL = "".join(f"(?<!{kind}_)" for kind in ("bos", "eos", "pad", "unk", "mask", "cls", "sep", "special", "image"))
_SECRET_KEY = rf"(?:{_SPECIAL}token|password|passwd|secret|api_?key|private_?key|credentials?)"
_SECRET_NAME = re.compile(rf"(?:^|[_.-]){_SECRET_KEY}$", re.IGNORECASE)
_SECRET_ARGUMENT = re.compile(rf"(?i)((?:^|[_.\s-]){_SECRET_KEY}\s*[=:]\s*)(\S+)")
_SECRET_VALUES = (
    re.compile(r"\bhf_[A-Za-z0-9]{16,}"),
    re.compile(r"(?<=://)[^/@\s]+(?=@)"),
    re.compile(r"(?i)(?<=\bbearer )\S+"),
)
# A slash that starts a word: not the ones of URLs, of org/model, of relative paths and of fractions.
_LOCAL_PATH = re.compile(
    r"(?<![\w/.~\\:*)-])(?:(?:[A-Za-z]:)?[\\/]|~/)(?:[^\s\\/'\"`,;:=<>|]+[\\/])*([^\s\\/'\"`,;:=<>|]*)"
)
_FILE_URL = re.compile(r"file://(?=/)")


def without_secrets(value: Any) -> Any:
    """Return a copy of JSON-like data with tokens blanked, by their look and by the name of their key.

    Keys such as `hub_token` and `api_key` lose their value whatever it looks like; so do `--hub-token x` in a list and
    `hub_token=x` in a text.
    """
    if isinstance(value, str):
        return _text_without_secrets(value)
    if isinstance(value, Mapping):
        return {key: BLANK if item and _is_secret(key, item) else without_secrets(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        hidden = [index > 0 and _is_option(value[index - 1]) for index in range(len(value))]
        return [BLANK if hide else without_secrets(item) for hide, item in zip(hidden, value, strict=True)]
    return value


def without_local_paths(value: Any) -> Any:
    """Return a copy of JSON-like data with every absolute path cut down to its last part."""
    if isinstance(value, str):
        return _LOCAL_PATH.sub(_last_part, _FILE_URL.sub("", value))
    if isinstance(value, Mapping):
        return {key: without_local_paths(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_local_paths(item) for item in value]
    return value


def _text_without_secrets(text: str) -> str:
    text = _SECRET_ARGUMENT.sub(rf"\g<1>{BLANK}", text)
    for pattern in _SECRET_VALUES:
        text = pattern.sub(BLANK, text)
    return text


def _is_secret(key: Any, item: Any) -> bool:
    return isinstance(item, str) and isinstance(key, str) and bool(_SECRET_NAME.search(key))


def _is_option(item: Any) -> bool:
    return isinstance(item, str) and item.startswith("-") and bool(_SECRET_NAME.search(item))


def _last_part(match: re.Match[str]) -> str:
    whole, last = match.group(0), match.group(1)
    return last or re.split(r"[\\/]", whole.rstrip("\\/"))[-1] or whole
