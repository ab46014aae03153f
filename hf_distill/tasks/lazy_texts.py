"""Documents that stay where they are (a memory-mapped data set) until they are read, one after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import overload

import numpy as np
from numpy.typing import ArrayLike


class _LazyTexts(Sequence[str]):
    """Texts by number, read when they are asked for."""

    def _text(self, index: int) -> str:
        raise NotImplementedError

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self._text(one) for one in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"document {index} asked of {len(self)}")
        return self._text(index % len(self))


class SelectedTexts(_LazyTexts):
    """Some documents of a collection.

    Args:
        documents: The collection.
        indexes: Which of them, in this order.
    """

    def __init__(self, documents: Sequence[str], indexes: ArrayLike) -> None:
        self._documents = documents
        self._indexes = np.asarray(indexes, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._indexes)

    def _text(self, index: int) -> str:
        return self._documents[int(self._indexes[index])]


class JoinedTexts(_LazyTexts):
    """Collections of documents, one behind the other.

    Args:
        parts: The collections.
    """

    def __init__(self, parts: Sequence[Sequence[str]]) -> None:
        self._parts = list(parts)
        self._ends = list(accumulate(len(part) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _text(self, index: int) -> str:
        place = bisect_right(self._ends, index)
        return self._parts[place][index - (self._ends[place - 1] if place else 0)]
