from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hf_distill.atomic import atomic_write_bytes, atomic_write_json, atomic_write_text, json_ready

resource = pytest.importorskip("resource", reason="file size limits exist on POSIX only")
FILE_LIMIT = 1 << 20


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Make writes beyond 1 MiB fail in the operating system, as they do on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_LIMIT, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_neither_harms_the_old_file_nor_leaves_a_temporary_one(tmp_path: Path, full_disk: None) -> None:
    file = tmp_path / "record.json"
    file.write_bytes(b"old")
    with pytest.raises(OSError, match="File too large"):
        atomic_write_bytes(file, bytes(2 * FILE_LIMIT))
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_value_without_json_form_does_not_touch_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_text("old")
    with pytest.raises(ValueError, match=r"runs\[1\]\.model: a object has no JSON form"):
        atomic_write_json(file, {"runs": [{}, {"model": object()}]})
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_target_that_is_a_folder_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        atomic_write_text(tmp_path / "taken", "text")
    assert os.listdir(tmp_path) == ["taken"]


def test_a_longer_old_file_leaves_no_tail_behind(tmp_path: Path) -> None:
    file = tmp_path / "new" / "folder" / "text.txt"
    atomic_write_text(file, "long " * 1000)
    assert atomic_write_text(file, "é\n") == file
    assert file.read_bytes() == "é\n".encode()


def test_a_linked_cache_blob_is_not_overwritten_through_the_link(tmp_path: Path) -> None:
    blob, link = tmp_path / "blob", tmp_path / "link"
    blob.write_text("shared")
    link.symlink_to(blob)
    atomic_write_text(link, "mine")
    assert blob.read_text() == "shared"
    assert link.read_text() == "mine"


def test_others_may_read_what_the_umask_lets_them_read(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        mode = atomic_write_text(tmp_path / "report.html", "x").stat().st_mode
    finally:
        os.umask(before)
    assert stat.S_IMODE(mode) == 0o644


def test_a_long_file_name_still_has_a_temporary_sibling(tmp_path: Path) -> None:
    file = tmp_path / ("n" * 250)
    atomic_write_text(file, "x")
    assert os.listdir(tmp_path) == [file.name]


def test_bare_nan_is_never_written_because_strict_readers_refuse_it(tmp_path: Path) -> None:
    values = {"nan": float("nan"), "list": [float("inf"), -float("inf"), np.float32("nan")], "fine": 0.5}
    text = atomic_write_json(tmp_path / "x.json", values).read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"nan": None, "list": [None, None, None], "fine": 0.5}


def test_numpy_scalars_paths_tuples_and_integer_keys_find_their_json_form() -> None:
    value = {0: np.int64(3), "float": np.float32(0.5), "path": Path("a") / "b", "tuple": (1, True, None)}
    assert json_ready(value) == {"0": 3, "float": 0.5, "path": os.path.join("a", "b"), "tuple": [1, True, None]}
    assert type(json_ready(np.int64(3))) is int


def test_the_value_given_is_not_changed() -> None:
    value = {"a": [float("nan")], "b": (1, 2)}
    json_ready(value)
    assert np.isnan(value["a"][0]) and value["b"] == (1, 2)


@pytest.mark.parametrize("key", [None, True, 1.5, (1, 2)])
def test_a_key_that_json_would_silently_turn_into_text_is_refused(key: object) -> None:
    with pytest.raises(ValueError, match=r"metrics: the key .* is not text"):
        json_ready({"metrics": {key: 1}})
