"""The piece that a rank holds of each tensor of a split teacher: read from files alone, and written in place.

Whatever way an engine splits a tensor, a rank's piece is a run of its numbers in the order of memory: whole rows under
FSDP2, any numbers under ZeRO-3. Of a file, only the rows around the run are read.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from hf_distill.teachers.swap import misfit
from hf_distill.teachers.weight_reading import each_tensor


class Piece(NamedTuple):
    """What this rank holds of a tensor.

    Attributes:
        names: All that the tensor goes by in the model; several where weights are tied.
        shape: Of the whole tensor.
        start: The first number that is held.
        stop: Behind the last one; `start` where nothing is held.
    """

    names: frozenset[str]
    shape: tuple[int, ...]
    start: int
    stop: int

    @classmethod
    def whole(cls, names: Iterable[str], shape: tuple[int, ...]) -> Piece:
        """Return the piece of a tensor that each rank holds whole."""
        return cls(frozenset(names), shape, 0, math.prod(shape))

    def of(self, stored: Any) -> Tensor:
        """Return a copy of the piece's numbers.

        Args:
            stored: The whole tensor, or a slice object of a file, of which only some rows are read.

        Shapes: returns (stop − start,).
        """
        if not self.shape:
            return stored[...].reshape(1)[self.start : self.stop].clone()
        width = math.prod(self.shape[1:])
        first = self.start // max(width, 1)
        rows = stored[first : -(-self.stop // max(width, 1))]
        return rows.reshape(-1)[self.start - first * width : self.stop - first * width].clone()


class Stored(NamedTuple):
    """A tensor as it is stored: the shape of all of it, and the numbers of this rank's piece.

    Attributes:
        numbers: None where the model has no such tensor, or one of another shape. Shapes: (stop − start,).
    """

    shape: tuple[int, ...]
    numbers: Tensor | None


def names_by_tensor(model: nn.Module) -> list[tuple[Tensor, frozenset[str]]]:
    """Return each parameter with all names that it has in a model; tied ones have several."""
    names: dict[Tensor, set[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(parameter, set()).add(name)
    return [(parameter, frozenset(found)) for parameter, found in names.items()]


def buffer_pieces(model: nn.Module) -> list[Piece]:
    """Return the buffers that files hold, which no engine splits."""
    kept = model.state_dict().keys()
    return [Piece.whole([name], tuple(buffer.shape)) for name, buffer in model.named_buffers() if name in kept]


def by_name(pieces: Iterable[Piece]) -> dict[str, Piece]:
    """Return pieces by each of their names."""
    return {name: piece for piece in pieces for name in piece.names}


def read_pieces(
    folder: str | Path, pieces: Mapping[str, Piece], *, stopped: threading.Event | None = None
) -> dict[str, Stored]:
    """Return this rank's pieces of all tensors of a model folder, in CPU memory.

    Of safetensors only the rows around a piece are read; pickled weights are read whole.

    Args:
        folder: Folder with weights.
        pieces: By name; other tensors of the folder are named in the result, but not read.
        stopped: Ends the reading early when set; the result is then incomplete.

    Raises:
        ValueError: The folder holds no weights, or two shards hold a tensor of one name.
    """
    return {name: _stored(name, shape, stored, pieces) for name, shape, stored in each_tensor(folder, stopped=stopped)}


def cut(tensors: Mapping[str, Tensor], pieces: Mapping[str, Piece]) -> dict[str, Stored]:
    """Return this rank's pieces of tensors that are in memory whole."""
    return {name: _stored(name, tuple(tensor.shape), tensor, pieces) for name, tensor in tensors.items()}


def pieces_fit(stored: Mapping[str, Stored], pieces: Mapping[str, Piece]) -> bool:
    """Return whether the stored names are the model's; one name is enough for tied weights."""
    return set(stored) <= set(pieces) and all(piece.names & set(stored) for piece in pieces.values())


@torch.no_grad()
def write_in_place(
    stored: Mapping[str, Stored], pieces: Mapping[str, Piece], memory: Mapping[str, Tensor], *, what: str
) -> None:
    """Copy this rank's pieces to where they lie, after checking all shapes, so that a refusal changes nothing.

    Args:
        stored: What is copied.
        pieces: Of the model.
        memory: Where each piece lies.
        what: Is copied, for the message.

    Raises:
        ValueError: A tensor is missing or has another shape.
    """
    wrong = [
        f"{name}: {one.shape} instead of {pieces[name].shape}"
        for name, one in stored.items()
        if name in pieces and one.shape != pieces[name].shape
    ]
    if wrong or not pieces_fit(stored, pieces):
        raise misfit(what, wrong or sorted(set(pieces) ^ set(stored)))
    for name, one in stored.items():
        assert one.numbers is not None
        memory[name].copy_(one.numbers.view(memory[name].shape), non_blocking=True)


def _stored(name: str, shape: tuple[int, ...], stored: Any, pieces: Mapping[str, Piece]) -> Stored:
    piece = pieces.get(name)
    return Stored(shape, piece.of(stored) if piece is not None and piece.shape == shape else None)
