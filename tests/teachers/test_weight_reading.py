"""Tensors of a folder, read as they are stored."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from teacher_folders import save_pickled_teacher, save_teacher

from hf_distill.teachers.weight_reading import each_tensor, read_tensors


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_shards_are_merged(tmp_path: Path) -> None:
    whole = save_teacher(tmp_path / "whole", seed=3)
    sharded = save_teacher(tmp_path / "sharded", seed=3, max_shard_size="3KB")
    assert_equal(read_tensors(sharded), read_tensors(whole))


def test_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "sharded", max_shard_size="3KB")
    first, second = sorted(folder.glob("*.safetensors"))[:2]
    save_file({**load_file(second), **load_file(first)}, second)
    with pytest.raises(ValueError, match="once more than the other shards"):
        read_tensors(folder)


def test_pickle_that_runs_code_is_refused_even_where_allowed(tmp_path: Path) -> None:
    folder = save_pickled_teacher(tmp_path / "old")
    torch.save(torch.nn.Linear(1, 1), folder / "pytorch_model.bin")
    with pytest.raises(Exception, match="Weights only load failed"):
        read_tensors(folder)


def test_numbers_without_a_dimension_are_kept(tmp_path: Path) -> None:
    tensors = {"scale": torch.tensor(2.5), "row": torch.arange(3.0), "nothing": torch.zeros(0, 4)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert_equal(read_tensors(tmp_path), tensors)


@pytest.mark.parametrize("save", [save_teacher, save_pickled_teacher])
def test_shapes_are_told_rightly(tmp_path: Path, save) -> None:
    folder = save(tmp_path / "teacher")
    assert {name: shape for name, shape, _ in each_tensor(folder)} == {
        name: tuple(tensor.shape) for name, tensor in read_tensors(folder).items()
    }


def test_reading_ends_when_it_is_stopped(tmp_path: Path) -> None:
    stopped = threading.Event()
    stopped.set()
    assert read_tensors(save_teacher(tmp_path / "teacher"), stopped=stopped) == {}
