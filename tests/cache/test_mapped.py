from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_distill.cache.mapped import MappedTensors, write_tensors

KINDS = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int8,
    torch.uint8,
]


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {str(kind): (torch.randn(7, 3) * 50).abs().to(kind) for kind in KINDS} | {"flat": torch.arange(7)}


def test_tensors_of_every_kind_are_read_bit_by_bit(tmp_path: Path, tensors: dict[str, torch.Tensor]) -> None:
    written = write_tensors(tmp_path, tensors, metadata={"commit": "abc"})
    file = MappedTensors(tmp_path / written.name)
    assert file.names == sorted(tensors)
    assert file.metadata == {"commit": "abc"}
    for name, tensor in tensors.items():
        assert file.tensor(name).dtype == tensor.dtype
        assert file.tensor(name).equal(tensor)
        assert file.rows(name, np.array([5, 0, 5])).equal(tensor[[5, 0, 5]])
        assert file.rows(name, np.zeros(0, dtype=np.int64)).equal(tensor[:0])


def test_a_file_is_called_after_its_content(tmp_path: Path) -> None:
    written = write_tensors(tmp_path, {"a": torch.arange(4)}, metadata={})
    content = (tmp_path / written.name).read_bytes()
    assert written == (f"{written.sha256}.safetensors", hashlib.sha256(content).hexdigest(), len(content))
    assert write_tensors(tmp_path, {"a": torch.arange(4)}, metadata={}) == written
    assert [path.name for path in tmp_path.iterdir()] == [written.name]


def test_the_name_does_not_depend_on_the_order_of_what_is_said_about_it(tmp_path: Path) -> None:
    metadata = {str(number): "x" for number in range(20)}
    names = {
        write_tensors(tmp_path, {"a": torch.arange(4)}, metadata=dict(items)).name
        for items in (metadata.items(), reversed(metadata.items()))
    }
    assert len(names) == 1


def test_what_is_read_can_be_changed_without_changing_the_file(tmp_path: Path) -> None:
    written = write_tensors(tmp_path, {"a": torch.arange(4)}, metadata={})
    file = MappedTensors(tmp_path / written.name)
    file.tensor("a").zero_()
    assert file.tensor("a").tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("size", [0, 6, 40, -1])
def test_a_file_that_is_cut_short_is_refused_by_name(tmp_path: Path, size: int) -> None:
    path = tmp_path / write_tensors(tmp_path, {"a": torch.arange(100)}, metadata={}).name
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=f"{path.name} is (empty|cut short)"):
        MappedTensors(path)


def test_missing_files_and_tensors_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nothing\.safetensors is missing"):
        MappedTensors(tmp_path / "nothing.safetensors")
    written = write_tensors(tmp_path, {"a": torch.arange(4)}, metadata={})
    with pytest.raises(ValueError, match=r"no readable tensor 'b'; it has a \(I64\)"):
        MappedTensors(tmp_path / written.name).tensor("b")
