"""A frozen teacher that an engine splits over ranks: whole only where and while it computes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from hf_distill.teachers.pieces import Piece, Stored, cut, pieces_fit, write_in_place


class SplitModel(ABC):
    """A teacher of which each rank holds a piece.

    Every rank must call it equally often: the ranks put each layer together when its turn comes.

    Attributes:
        model: What is called: the teacher in its engine.
        pieces: What this rank holds of each tensor, by name.
    """

    model: nn.Module
    pieces: dict[str, Piece]

    @abstractmethod
    def memory(self) -> dict[str, Tensor]:
        """Let go of all that is whole on this rank, and return where its pieces lie, by name."""

    def write(self, stored: Mapping[str, Stored], load: Callable[[], nn.Module], *, what: str) -> None:
        """Change the weights in place, on this rank alone; each rank has to do so.

        Args:
            stored: This rank's pieces, as files have them.
            load: Loads the whole model into CPU memory, where the files name their tensors in another way.
            what: Is written, for messages.

        Raises:
            ValueError: It is of another architecture; then nothing has changed.
        """
        if not pieces_fit(stored, self.pieces):
            stored = cut(load().state_dict(), self.pieces)
        write_in_place(stored, self.pieces, self.memory(), what=what)
