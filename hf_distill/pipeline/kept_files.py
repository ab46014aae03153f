"""What a run has kept as JSON, read again: a file that was cut off or edited is named, with what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

Kept = TypeVar("Kept", dict[str, Any], list[dict[str, Any]])


def read_kept(file: Path, kind: type[Kept]) -> Kept:
    """Return the content of a JSON file of a run.

    Args:
        file: Which is there.
        kind: What it holds: `dict` or `list`.

    Raises:
        ValueError: It cannot be read, or holds something else.
    """
    what_to_do = "restore it, or remove it and run the recipe again"
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not readable JSON ({error}); {what_to_do}") from error
    if not isinstance(content, kind):
        raise ValueError(f"{file} holds a {type(content).__name__} where a {kind.__name__} was written; {what_to_do}")
    return content
