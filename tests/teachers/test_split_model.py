"""New weights for a split teacher, on one rank by itself."""

from __future__ import annotations

import pytest
import torch
from builders import tiny_model
from torch import Tensor, nn

from hf_distill.teachers.pieces import Piece, by_name, cut, names_by_tensor
from hf_distill.teachers.split_model import SplitModel


class Halved(SplitModel):
    """One of two ranks that hold half of each tensor's numbers."""

    def __init__(self, model: nn.Module, rank: int) -> None:
        self.model = model
        found = []
        for one, names in names_by_tensor(model):
            middle = one.numel() // 2
            found.append(Piece(names, tuple(one.shape), *((0, middle) if rank == 0 else (middle, one.numel()))))
        self.pieces = by_name(found)
        self._memory = {name: torch.zeros(piece.stop - piece.start) for name, piece in self.pieces.items()}

    def memory(self) -> dict[str, Tensor]:
        return self._memory


def never() -> nn.Module:
    raise AssertionError("the whole model is loaded")


def test_the_whole_model_is_not_loaded_where_pieces_are_enough():
    split, other = Halved(tiny_model("classification"), rank=1), tiny_model("classification", seed=5)
    split.write(cut(other.state_dict(), split.pieces), never, what="X")
    assert all(
        torch.equal(split.memory()[name], split.pieces[name].of(one)) for name, one in other.state_dict().items()
    )


def test_names_that_transformers_converts_are_refused():
    split, other = Halved(tiny_model("classification"), rank=0), tiny_model("classification", seed=5)
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): one for name, one in other.state_dict().items()}
    split.write(cut(old, split.pieces), lambda: other, what="X")
    assert all(
        torch.equal(split.memory()[name], split.pieces[name].of(one)) for name, one in other.state_dict().items()
    )


def test_another_architecture_is_not_written():
    split, other = Halved(tiny_model("classification"), rank=0), tiny_model("classification", num_hidden_layers=3)
    with pytest.raises(ValueError, match=r"X does not fit the teacher.*must have one architecture"):
        split.write(cut(other.state_dict(), split.pieces), lambda: other, what="X")
    assert not any(one.any() for one in split.memory().values())
