"""Pieces of tensors, for every way of splitting them that an engine could have."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import tiny_model
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from teacher_folders import save_teacher

from hf_distill.teachers.pieces import (
    Piece,
    buffer_pieces,
    by_name,
    cut,
    names_by_tensor,
    pieces_fit,
    read_pieces,
    write_in_place,
)

SHAPES = st.lists(st.integers(1, 5), min_size=0, max_size=3).map(tuple)


@settings(deadline=None, max_examples=60)
@given(shape=SHAPES, data=st.data())
def test_a_piece_is_its_run_of_the_numbers_of_the_whole(shape, data):
    whole = torch.randn(shape)
    start = data.draw(st.integers(0, whole.numel()))
    stop = data.draw(st.integers(start, whole.numel()))
    found = Piece(frozenset(["x"]), shape, start, stop).of(whole)
    assert torch.equal(found, whole.flatten()[start:stop])
    assert found.numel() == 0 or found.data_ptr() != whole.data_ptr() + start * 4, "not a view"


class Watched:
    """A slice object that counts the rows that are read of it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor, self.rows = tensor, 0

    def __getitem__(self, key: slice) -> torch.Tensor:
        rows = self.tensor[key]
        self.rows += len(rows)
        return rows


def test_rows_that_the_piece_does_not_touch_are_not_read():
    stored = Watched(torch.arange(40.0).reshape(10, 4))
    found = Piece(frozenset(["x"]), (10, 4), 10, 21).of(stored)
    assert found.tolist() == list(range(10, 21))
    assert stored.rows == 4, "rows 2 to 5 hold the numbers 10 to 20"


def halves(folder: Path, rank: int) -> dict[str, Piece]:
    """Return the pieces of one of two ranks that split every tensor in the middle of its numbers."""
    found = []
    for name, tensor in load_file(folder / "model.safetensors").items():
        middle = -(-tensor.numel() // 2)
        start, stop = (0, middle) if rank == 0 else (middle, tensor.numel())
        found.append(Piece(frozenset([name]), tuple(tensor.shape), start, stop))
    return by_name(found)


@pytest.mark.parametrize("size", ["1GB", "3KB"])
def test_two_ranks_read_a_folder_once_without_gaps(tmp_path, size):
    whole, folder = save_teacher(tmp_path / "whole"), save_teacher(tmp_path / "teacher", max_shard_size=size)
    first, second = (read_pieces(folder, halves(whole, rank)) for rank in (0, 1))
    for name, tensor in load_file(whole / "model.safetensors").items():
        assert first[name].shape == tuple(tensor.shape)
        assert torch.equal(torch.cat([first[name].numbers, second[name].numbers]), tensor.flatten())


def test_a_tensor_nobody_asked_for_is_not_read(tmp_path):
    save_file({"known": torch.ones(4), "unknown": torch.ones(4)}, tmp_path / "model.safetensors")
    pieces = {"known": Piece.whole(["known"], (3,))}
    found = read_pieces(tmp_path, pieces)
    assert found["unknown"].numbers is None
    assert found["known"].numbers is None, "of another shape"
    assert found["known"].shape == (4,)
    assert not pieces_fit(found, pieces)


def test_one_name_is_enough_for_tied_weights():
    model = tiny_model("masked_lm")
    pieces = by_name(Piece.whole(names, tuple(one.shape)) for one, names in names_by_tensor(model))
    tied = pieces["cls.predictions.decoder.weight"]
    assert tied.names == {"cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"}
    assert len({piece.names for piece in pieces.values()}) == len(list(model.parameters()))
    stored = cut({name: one.detach() for name, one in model.named_parameters()}, pieces)
    assert "cls.predictions.decoder.weight" not in stored
    assert pieces_fit(stored, pieces)
    del stored["cls.predictions.bias"]
    assert not pieces_fit(stored, pieces)


def test_buffers_that_no_file_holds_are_no_pieces():
    model = torch.nn.Module()
    model.register_buffer("kept", torch.zeros(2, 3))
    model.register_buffer("computed", torch.zeros(4), persistent=False)
    assert buffer_pieces(model) == [Piece(frozenset(["kept"]), (2, 3), 0, 6)]


def test_a_refused_write_changes_nothing():
    pieces = {name: Piece.whole([name], (2, 2)) for name in ("a", "b")}
    memory = {name: torch.zeros(2, 2) for name in pieces}
    for stored, found in (
        ({"a": torch.ones(2, 2), "b": torch.ones(3, 2)}, r"X does not fit.*b: \(3, 2\) instead of \(2, 2\)"),
        ({"a": torch.ones(2, 2)}, "X does not fit the teacher in memory: b"),
    ):
        with pytest.raises(ValueError, match=found):
            write_in_place(cut(stored, pieces), pieces, memory, what="X")
    assert not any(one.any() for one in memory.values())


def test_a_write_changes_the_model():
    piece = Piece(frozenset(["a"]), (4, 2), 2, 6)
    part = torch.zeros(2, 2, dtype=torch.bfloat16)
    write_in_place(cut({"a": torch.arange(8.0).view(4, 2)}, {"a": piece}), {"a": piece}, {"a": part}, what="X")
    assert part.tolist() == [[2, 3], [4, 5]]
    assert part.dtype == torch.bfloat16


def test_a_file_s_own_slices_behave_as_tensors_do(tmp_path):
    tensor = torch.arange(12.0).view(4, 3)
    save_file({"x": tensor, "scalar": torch.tensor(3.0)}, tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert Piece(frozenset(["x"]), (4, 3), 4, 8).of(file.get_slice("x")).tolist() == [4, 5, 6, 7]
        assert Piece(frozenset(["x"]), (4, 3), 12, 12).of(file.get_slice("x")).tolist() == []
        assert Piece.whole(["scalar"], ()).of(file.get_slice("scalar")).tolist() == [3.0]
