"""Memory for blocks of rows that is used again and again."""

from __future__ import annotations

from torch import Tensor

STAGGER = 208
"""Numbers by which pieces are shifted against each other: some 64-byte lines, not a power of two of them."""


class Scratch:
    """Memory for blocks, taken piece by piece and given back all at once: nothing is allocated after the first block.

    Args:
        rows: Of the largest block.
        width: Of the widest.
        like: A tensor of the wanted type, on the wanted device.
    """

    def __init__(self, rows: int, width: int, *, like: Tensor) -> None:
        self._size = rows * width
        self._like = like
        self._pieces: list[Tensor] = []
        # Blocks have the same few shapes over and over; a view costs as much as a small operation.
        self._views: dict[tuple[int, int, int], Tensor] = {}
        self._taken = 0

    def take(self, rows: int, width: int) -> Tensor:
        """Return memory of unknown content. Shapes: (rows, width), contiguous."""
        key = (self._taken, rows, width)
        if key not in self._views:
            self._views[key] = self._piece(self._taken)[: rows * width].view(rows, width)
        self._taken += 1
        return self._views[key]

    def _piece(self, number: int) -> Tensor:
        if number == len(self._pieces):
            # Pieces that start at the same place of a page slow each other down in operations on several of them.
            offset = (number + 1) * STAGGER
            self._pieces.append(self._like.new_empty(self._size + offset)[offset:])
        return self._pieces[number]

    def converted(self, rows_rV: Tensor) -> Tensor:
        """Return rows in this memory's type: themselves where they have it already, otherwise a copy."""
        if rows_rV.dtype == self._like.dtype:
            return rows_rV
        return self.take(*rows_rV.shape).copy_(rows_rV)

    def give_back(self) -> None:
        """Declare everything taken as free."""
        self._taken = 0
