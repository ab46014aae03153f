from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from teacher_folders import cache_model, save_pickled_teacher, save_teacher, save_trainer_checkpoint

from hf_distill.teachers.fetcher import Fetcher
from hf_distill.teachers.pieces import Piece
from hf_distill.teachers.read_ahead import ReadAhead
from hf_distill.teachers.revisions import Revision, resolve_revisions


@pytest.fixture
def revisions(tmp_path: Path) -> list[Revision]:
    for step in (10, 20):
        save_trainer_checkpoint(tmp_path / "teacher", step)
    return resolve_revisions(tmp_path / "teacher")


def saved(revision: Revision) -> dict[str, torch.Tensor]:
    assert revision.folder is not None
    return load_file(revision.folder / "model.safetensors")


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0)


def test_revision_read_ahead_is_the_one_taken(revisions: list[Revision]) -> None:
    reader = ReadAhead()
    reader.start(revisions[1])
    assert_equal(reader.take(revisions[1]), saved(revisions[1]))


def test_another_revision_than_the_one_started_is_read_rightly(revisions: list[Revision]) -> None:
    reader = ReadAhead()
    reader.start(revisions[1])
    assert_equal(reader.take(revisions[0]), saved(revisions[0]))
    assert_equal(reader.take(revisions[1]), saved(revisions[1]))


def test_a_reader_of_files_alone_keeps_no_tensors(revisions: list[Revision]) -> None:
    reader = ReadAhead(keep_tensors=False)
    reader.start(revisions[1])
    assert reader.take(revisions[1]) == {}
    (revisions[0].folder / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(ValueError, match="is no whole ch"):
        reader.take(revisions[0])


def test_a_split_teacher_reads_only_its_pieces(revisions: list[Revision]) -> None:
    reader, name = ReadAhead(), "bert.embeddings.word_embeddings.weight"
    reader.start(revisions[1])
    reader.read_only({name: Piece(frozenset([name]), (20, 16), 24, 72)})
    reader.start(revisions[1])
    found = reader.take(revisions[1])
    assert found.keys() == saved(revisions[1]).keys()
    torch.testing.assert_close(found[name].numbers, saved(revisions[1])[name].flatten()[24:72], rtol=0, atol=0)
    assert sum(0 if one.numbers is None else one.numbers.numel() for one in found.values()) == 48


def test_starting_another_revision_drops_the_first(revisions: list[Revision]) -> None:
    reader = ReadAhead()
    reader.start(revisions[0])
    reader.start(revisions[1])
    reader.start(revisions[1])
    assert_equal(reader.take(revisions[1]), saved(revisions[1]))


def test_tensors_do_not_follow_the_file_that_is_overwritten_later(revisions: list[Revision]) -> None:
    reader, revision = ReadAhead(), revisions[0]
    before = {name: tensor.clone() for name, tensor in saved(revision).items()}
    tensors = reader.take(revision)
    assert revision.folder is not None
    path = revision.folder / "model.safetensors"
    with open(path, "r+b") as stream:
        stream.seek(-400, 2)
        stream.write(b"\x55" * 400)
    assert_equal(tensors, before)


def test_reading_leaves_random_numbers_and_default_type_alone(revisions: list[Revision]) -> None:
    before = (torch.get_rng_state(), random.getstate(), torch.get_default_dtype())
    reader = ReadAhead()
    reader.start(revisions[0])
    reader.take(revisions[0])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]
    assert torch.get_default_dtype() == before[2]


def test_error_of_the_thread_reaches_the_trainer(revisions: list[Revision]) -> None:
    reader = ReadAhead()
    assert revisions[1].folder is not None
    (revisions[1].folder / "model.safetensors").unlink()
    reader.start(revisions[1])
    with pytest.raises(ValueError, match="is no whole checkpoint any more") as caught:
        reader.take(revisions[1])
    assert any(entry.name == "_get" for entry in caught.traceback)
    assert_equal(reader.take(revisions[0]), saved(revisions[0]))


def test_checkpoint_that_changed_since_pinning_is_not_taught(revisions: list[Revision]) -> None:
    assert revisions[1].folder is not None
    save_teacher(revisions[1].folder, seed=99)
    reader = ReadAhead()
    reader.start(revisions[1])
    with pytest.raises(ValueError, match="changed since it was pinned"):
        reader.take(revisions[1])


def test_revision_from_the_hub_cache_is_read_offline(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "saved", seed=4)
    cache_model(tmp_path / "cache", "org/model", {"main": folder})
    [revision] = resolve_revisions("org/model", cache_dir=tmp_path / "cache")
    reader = ReadAhead(Fetcher(cache_dir=tmp_path / "cache"))
    reader.start(revision)
    assert_equal(reader.take(revision), load_file(folder / "model.safetensors"))


def test_revision_not_cached_says_how_to_download_it(tmp_path: Path) -> None:
    revision = Revision(name="step1", step=1, source="org/model", revision="step1", commit="ab" * 20)
    reader = ReadAhead(Fetcher(cache_dir=tmp_path))
    reader.start(revision)
    with pytest.raises(ValueError, match=f"hf download org/model --revision {'ab' * 20} --cache-dir"):
        reader.take(revision)


def test_pickled_weights_are_read_only_where_allowed(tmp_path: Path) -> None:
    folder = save_pickled_teacher(tmp_path / "old")
    [revision] = resolve_revisions(folder, allow_pickled_weights=True)
    assert "embeddings.word_embeddings.weight" in ReadAhead(Fetcher(allow_pickled_weights=True)).take(revision)
    with pytest.raises(ValueError, match="allow_pickled_weights"):
        ReadAhead().take(revision)


EXIT_WHILE_READING = """
import sys
from pathlib import Path
from hf_distill.teachers.pieces import Piece
from hf_distill.teachers.read_ahead import ReadAhead
from hf_distill.teachers.revisions import Revision
from hf_distill.teachers.weight_files import stamp_of

folder = Path(sys.argv[1])
reader = ReadAhead()
reader.start(
    Revision(name="m", step=1, source="m", revision=None, commit="sha256:", folder=folder, stamp=stamp_of(folder))
)
while not reader._reading._copying.locked():
    assert reader._reading._thread.is_alive()
print("reading")
"""


@pytest.mark.slow
def test_process_that_ends_while_reading_does_not_abort(tmp_path: Path, project_root: Path) -> None:
    size = 8 * 2**20
    tensors = {
        f"t{i:03}": {"dtype": "U8", "shape": [size], "data_offsets": [i * size, (i + 1) * size]} for i in range(128)
    }
    header = json.dumps(tensors).encode()
    (tmp_path / "config.json").write_text("{}")
    with open(tmp_path / "model.safetensors", "wb") as stream:
        stream.write(len(header).to_bytes(8, "little") + header)
        # A hole in the file: a gigabyte to read that takes no place on the disk.
        stream.truncate(8 + len(header) + 128 * size)
    command = [sys.executable, "-c", EXIT_WHILE_READING, str(tmp_path)]
    ended = subprocess.run(command, cwd=project_root, capture_output=True, text=True, timeout=120)
    assert ended.stdout == "reading\n"
    assert ended.returncode == 0, ended.stderr


def test_closed_reader_stops_and_keeps_nothing(revisions: list[Revision]) -> None:
    reader = ReadAhead()
    reader.start(revisions[0])
    reader.close()
    assert reader._reading is None
