"""Modules beside the student: their file in a checkpoint."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_distill.models.checkpointed_module import CheckpointedModule


class Kept(CheckpointedModule):
    """One linear map, or nothing."""

    file_name = "kept.safetensors"
    what = "linear maps"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList([nn.Linear(width, width)] if width else [])


def test_the_tensors_come_back_bitwise(tmp_path):
    written, read = Kept(3), Kept(3)
    written.save(tmp_path)
    read.load(tmp_path)
    assert torch.equal(read.maps[0].weight, written.maps[0].weight)
    assert torch.equal(read.maps[0].bias, written.maps[0].bias)


def test_a_module_without_tensors_leaves_no_file_and_asks_for_none(tmp_path):
    Kept(0).save(tmp_path)
    assert not list(tmp_path.iterdir())
    Kept(0).load(tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"has no kept\.safetensors: its run had no linear maps"):
        Kept(3).load(tmp_path)


def test_tensors_of_another_width_are_refused(tmp_path):
    Kept(3).save(tmp_path)
    with pytest.raises(ValueError, match="belongs to other layers or widths"):
        Kept(4).load(tmp_path)
