"""Where in the recipe something is wrong: key paths for what is said by parts that know only their own block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def at(path: str) -> Iterator[None]:
    """Put a key path in front of what is wrong with its values.

    Raises:
        ValueError: What was raised inside, with the path.
    """
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


@contextmanager
def said_of(block: str, path: str) -> Iterator[None]:
    """Name a block by its whole key path in messages that begin with its own name.

    Args:
        block: As those who read it call it: "model", "curriculum".
        path: Where it stands in the recipe.

    Raises:
        ValueError: What was raised inside, about `path` where it was about `block`.
    """
    try:
        yield
    except ValueError as error:
        text = str(error)
        rest = text.removeprefix(block)
        if rest == text or rest[:1] not in (".", ":", "[") or block == path:
            raise
        raise ValueError(f"{path}{rest}") from error
