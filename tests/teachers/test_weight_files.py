from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from teacher_folders import cut, save_pickled_teacher, save_teacher

from hf_distill.teachers.weight_files import (
    content_hash,
    is_plain_name,
    json_problem,
    safetensors_header,
    safetensors_problem,
    stamp_of,
    torch_file_problem,
    weight_files,
    weight_map,
    weights_format,
    weights_hash,
)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return save_teacher(tmp_path / "sharded", max_shard_size="3KB")


def test_whole_file_is_not_called_cut_short(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3, 5), "empty": torch.zeros(0)}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    header = safetensors_header(tmp_path / "a.safetensors")
    assert header is not None
    assert header.names == {"a", "empty"}
    assert safetensors_problem(tmp_path / "a.safetensors") is None


@settings(derandomize=True, deadline=None, max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True))
def test_file_cut_anywhere_is_never_called_whole(share: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.safetensors"
    save_file({"a": torch.ones(9), "b": torch.ones(2)}, path)
    cut(path, int(path.stat().st_size * share))
    assert safetensors_problem(path) is not None


def test_problem_names_promised_and_found_size(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(100)}, path)
    size = path.stat().st_size
    cut(path, size - 7)
    assert safetensors_problem(path) == (
        f"model.safetensors is cut short: its header promises {size} bytes, the file has {size - 7}"
    )
    cut(path, 0)
    assert safetensors_problem(path) == "model.safetensors is empty"
    assert safetensors_problem(tmp_path / "other.safetensors") == "other.safetensors is missing"


def test_oversized_file_is_not_called_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(4)}, path)
    path.write_bytes(path.read_bytes() + b"\0")
    assert "longer than it should be" in str(safetensors_problem(path))


@pytest.mark.parametrize("header", [b"[]", b'{"a": 1}', b'{"a": {"data_offsets": ["x", "y"]}}', b"nonsense"])
def test_strange_header_is_a_problem_and_no_crash(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    assert "header cannot be read" in str(safetensors_problem(path))


def test_torch_file_cut_anywhere_is_found_without_unpickling(tmp_path: Path) -> None:
    path = tmp_path / "optimizer.pt"
    torch.save({"state": torch.zeros(1000)}, path)
    assert torch_file_problem(path) is None
    cut(path, path.stat().st_size // 2)
    assert "optimizer.pt is cut short" in str(torch_file_problem(path))
    path.write_bytes(b"<html>")
    assert "not written by torch.save" in str(torch_file_problem(path))


def test_json_that_is_cut_or_no_mapping_is_a_problem(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert json_problem(path) == "config.json is missing"
    path.write_text('{"a": ')
    assert "not valid JSON" in str(json_problem(path))
    path.write_bytes(b"\xff\xfe\x00")
    assert "not valid JSON" in str(json_problem(path))
    path.write_text("[1]")
    assert "no mapping" in str(json_problem(path))


def test_safetensors_win_over_pickled_weights_beside_them(tmp_path: Path) -> None:
    folder = save_pickled_teacher(tmp_path / "both")
    assert weights_format(folder) == "pickle"
    assert [path.name for path in weight_files(folder)] == ["pytorch_model.bin"]
    save_file({"a": torch.ones(1)}, folder / "model.safetensors")
    assert weights_format(folder) == "safetensors"
    assert [path.name for path in weight_files(folder)] == ["model.safetensors"]


def test_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no weights: expected model\.safetensors"):
        weight_files(tmp_path)


def test_every_shard_counts(sharded: Path) -> None:
    files = weight_files(sharded)
    assert len(files) > 1
    assert set(weight_map(sharded / "model.safetensors.index.json").values()) == {path.name for path in files}


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "sub/x.safetensors", "..", "a\\b", 3])
def test_index_cannot_lead_out_of_its_folder(name: object, sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(ValueError, match="no file of its folder"):
        weight_files(sharded)


@pytest.mark.parametrize("text", ["", "{}", '{"weight_map": {}}', '{"weight_map": 3}'])
def test_broken_index_is_refused_by_name(text: str, sharded: Path) -> None:
    (sharded / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"model\.safetensors\.index\.json"):
        weight_files(sharded)


def test_plain_names() -> None:
    assert is_plain_name("model-00001-of-00002.safetensors")
    assert not any(map(is_plain_name, ["", ".", "..", "a/b", "/a", "..\\a"]))


def test_hash_is_of_content_and_neither_of_place_nor_of_time(tmp_path: Path) -> None:
    one, two = save_teacher(tmp_path / "one"), save_teacher(tmp_path / "two")
    (two / "tokenizer.json").write_text("{}")
    assert content_hash(one) == content_hash(two)
    assert content_hash(one).startswith("sha256:")
    assert len(content_hash(one)) == len("sha256:") + 64
    assert content_hash(one) != content_hash(save_teacher(tmp_path / "three", seed=3))


def test_hash_sees_the_configuration_and_every_shard(sharded: Path) -> None:
    before, weights_before = content_hash(sharded), weights_hash(sharded)
    config = json.loads((sharded / "config.json").read_text())
    (sharded / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    assert content_hash(sharded) != before
    assert weights_hash(sharded) == weights_before
    last = weight_files(sharded)[-1]
    last.write_bytes(last.read_bytes()[:-1] + b"\x7f")
    assert weights_hash(sharded) != weights_before


def test_hash_of_one_shard_includes_its_index(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "one")
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index = folder / "model.safetensors.index.json"
    names = safetensors_header(folder / "model-00001-of-00001.safetensors")
    assert names is not None
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names.names, "model-00001-of-00001.safetensors")}))
    assert "model.safetensors.index.json" in [name for name, _, _ in stamp_of(folder)]


def test_stamp_changes_with_size_or_time(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "one")
    before = stamp_of(folder)
    assert [name for name, _, _ in before] == ["config.json", "model.safetensors"]
    assert stamp_of(folder) == before
    with open(folder / "config.json", "a") as stream:
        stream.write("\n")
    assert stamp_of(folder) != before
