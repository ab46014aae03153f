"""Memory for blocks of rows that is used again and again."""

from __future__ import annotations

from torch import Tensor


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
        self._taken = 0

    def take(self, rows: int, width: int) -> Tensor:
        """Return memory of unknown content. Shapes: (rows, width), contiguous."""
        if self._taken == len(self._pieces):
            self._pieces.append(self._like.new_empty(self._size))
        self._taken += 1
        return self._pieces[self._taken - 1][: rows * width].view(rows, width)

    def converted(self, rows_rV: Tensor) -> Tensor:
        """Return rows in this memory's type: themselves where they have it already, otherwise a copy."""
        if rows_rV.dtype == self._like.dtype:
            return rows_rV
        return self.take(*rows_rV.shape).copy_(rows_rV)

    def give_back(self) -> None:
        """Declare everything taken as free."""
        self._taken = 0
