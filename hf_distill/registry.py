"""Strict name -> class registries: a duplicate, a wrong base class or an unknown name is an error with a hint."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

Base = TypeVar("Base")


class Registry(Generic[Base]):
    """The classes a recipe may name, by kind.

    Args:
        kind: What the classes are, for error messages: "objective", "schedule", ...
        base: The class every entry must derive from.
    """

    def __init__(self, kind: str, base: type[Base]) -> None:
        self.kind = kind
        self.base = base
        self._entries: dict[str, type[Base]] = {}

    def register(self, name: str) -> Callable[[type[Base]], type[Base]]:
        """Return a class decorator that enters the class under `name`.

        Raises:
            ValueError: The name is taken or is not lower_snake_case.
            TypeError: The class does not derive from the registry's base.
        """
        if not name.isidentifier() or name != name.lower():
            raise ValueError(f"{self.kind} name {name!r} must be lower_snake_case")

        def enter(cls: type[Base]) -> type[Base]:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered already, by {self._entries[name].__qualname__}")
            if not issubclass(cls, self.base):
                raise TypeError(f"{cls.__qualname__} must derive from {self.base.__qualname__} to be a {self.kind}")
            self._entries[name] = cls
            return cls

        return enter

    def get(self, name: str) -> type[Base]:
        """Return the class registered under `name`.

        Raises:
            ValueError: No such name; the message lists the known ones and the closest match.
        """
        if not isinstance(name, str) or name not in self._entries:
            close = difflib.get_close_matches(str(name), self._entries, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"Unknown {self.kind} {name!r}.{hint} Known: {', '.join(self.names())}.")
        return self._entries[name]

    def names(self) -> list[str]:
        """Return the registered names in alphabetical order."""
        return sorted(self._entries)

    def name_of(self, cls: type[Base]) -> str:
        """Return the name `cls` is registered under.

        Raises:
            ValueError: The class is not registered.
        """
        for name, entry in self._entries.items():
            if entry is cls:
                return name
        raise ValueError(f"{cls.__qualname__} is not a registered {self.kind}")

    def build(self, spec: Mapping[str, Any], *, path: str) -> Base:
        """Build an entry from `{"name": ..., **fields}`, checking every field.

        Args:
            spec: The mapping of a recipe.
            path: Where the mapping stands in the recipe, for error messages.

        Raises:
            ValueError: `name` is missing or unknown, or a field is unknown or of the wrong type.
        """
        from hf_distill.strict_dataclass import from_mapping

        fields = dict(spec)
        if "name" not in fields:
            raise ValueError(f"{path}: a {self.kind} needs a `name`; known: {', '.join(self.names())}")
        return from_mapping(self.get(fields.pop("name")), fields, path=path)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: str) -> bool:
        return name in self._entries
