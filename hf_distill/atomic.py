"""Files that are either the old version or the new one, never a part of it: a temporary sibling, fsync, rename."""

from __future__ import annotations

import json
import math
import numbers
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> Path:
    """Replace the file at `path` by `data`, or leaves it untouched.

    The temporary file lies in the same folder, because a rename is atomic only within one file system. Missing parent
    folders are made. A symbolic link at `path` is replaced, not followed: it may point to a blob of a shared cache.

    Args:
        path: File to write.
        data: Its whole content.

    Returns:
        The path written.

    Raises:
        OSError: The disk is full, the folder is read-only, ... The old file is intact and no temporary file is left.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.parent / f".{target.name[:100]}.{secrets.token_hex(8)}.tmp"
    try:
        _write_and_sync(temporary, data)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)
    return target


def atomic_write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Do the same as `atomic_write_bytes`, for text: UTF-8, line ends as given."""
    return atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: str | os.PathLike[str], value: Any) -> Path:
    """Do the same as `atomic_write_bytes`, for JSON that any reader reads: non-finite numbers become null.

    Args:
        path: File to write.
        value: Anything `json_ready` accepts. It is converted before a file is touched.

    Raises:
        ValueError: A value has no JSON form; the message names the key.
    """
    text = json.dumps(json_ready(value), indent=2, ensure_ascii=False, allow_nan=False)
    return atomic_write_text(path, text + "\n")


def json_ready(value: Any, *, path: str = "") -> Any:
    """Return a copy of `value` made of dict, list, str, int, finite float, bool and None only.

    NaN and infinities become None (bare `NaN` is not JSON), numpy scalars Python numbers, tuples lists, paths text and
    integer keys text.

    Raises:
        ValueError: A value or a key has no JSON form; the message names where it stands.
    """
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {_json_key(key, path): json_ready(item, path=f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_ready(item, path=f"{path}[{index}]") for index, item in enumerate(value)]
    raise ValueError(
        f"{path.lstrip('.') or 'value'}: a {type(value).__name__} has no JSON form; expected text, numbers, booleans,"
        " null, lists or mappings. Convert it first, a tensor with .item() or .tolist()."
    )


def _json_key(key: Any, path: str) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, numbers.Integral) and not isinstance(key, bool):
        return str(int(key))
    raise ValueError(f"{path.lstrip('.') or 'value'}: the key {key!r} is not text, and JSON keys are text.")


def _write_and_sync(path: Path, data: bytes) -> None:
    # "x" with the process's umask: the temporary file becomes the real one, so mkstemp's 0600 would stay on it.
    with open(path, "xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    # The rename survives a power cut only once the folder itself is on disk. Windows cannot open folders.
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
