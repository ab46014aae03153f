from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hf_distill.teachers.hub_content import Altered, drop_altered_files, verified_file
from hf_distill.teachers.revision_spec import Revision
from hf_distill.teachers.weight_files import file_sha256

HELLO = "ce013625030ba8dba906f756967f9e9ca394464a"  # git's name of "hello\n"


def cached(storage: Path, **contents: bytes) -> Path:
    """A snapshot in the cache's layout: links to contents that are called by their SHA-256."""
    folder = storage / "snapshots" / ("c" * 40)
    for path in (folder, storage / "blobs"):
        path.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (storage / "blob").write_bytes(content)
        stored = (storage / "blob").rename(storage / "blobs" / file_sha256(storage / "blob"))
        (folder / name).symlink_to(stored)
    return folder


def alter(path: Path) -> None:
    """Change the last byte of a content and leave its size."""
    path.resolve().write_bytes(path.read_bytes()[:-1] + b"!")


def test_altered_files_are_all_removed_at_once_with_their_contents(tmp_path: Path) -> None:
    folder = cached(tmp_path, a=b"first", b=b"second", c=b"third")
    alter(folder / "a")
    alter(folder / "c")
    with pytest.raises(Altered, match=r"a, c in .*: another content than the Hub announced"):
        drop_altered_files(folder, tmp_path / "note")
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert [path.read_bytes() for path in (tmp_path / "blobs").iterdir()] == [b"second"]
    assert not (tmp_path / "note").exists()


def test_altered_small_file_is_found_by_the_name_that_git_gives_it(tmp_path: Path) -> None:
    folder = cached(tmp_path)
    (tmp_path / "blobs" / HELLO).write_bytes(b"hello\n")
    (folder / "config.json").symlink_to(tmp_path / "blobs" / HELLO)
    drop_altered_files(folder, tmp_path / "note")
    assert (folder / "config.json").read_bytes() == b"hello\n"
    (tmp_path / "blobs" / HELLO).write_bytes(b"hellO\n")
    with pytest.raises(Altered, match=r"config\.json in .* another content"):
        drop_altered_files(folder, tmp_path / "note")
    assert not list(tmp_path.rglob("ce01*"))


def test_note_holds_for_the_files_that_were_compared_and_for_no_later_ones(tmp_path: Path) -> None:
    folder, note = cached(tmp_path, a=b"first", b=b"second"), tmp_path / "verified" / "note.json"
    drop_altered_files(folder, note)
    assert sorted(json.loads(note.read_text())) == ["a", "b"]
    written = (folder / "a").stat().st_mtime_ns
    alter(folder / "a")
    os.utime(folder / "a", ns=(written, written))
    drop_altered_files(folder, note)  # its size and time stayed: not read
    os.utime(folder / "a", ns=(written, written + 1))
    with pytest.raises(Altered, match="a in "):
        drop_altered_files(folder, note)
    alter(folder / "b")
    note.unlink()
    with pytest.raises(Altered, match="b in "):
        drop_altered_files(folder, note)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', "\x00"])
def test_broken_note_is_none(tmp_path: Path, text: str) -> None:
    folder, note = cached(tmp_path, a=b"first"), tmp_path / "note"
    note.write_text(text)
    alter(folder / "a")
    with pytest.raises(Altered):
        drop_altered_files(folder, note)


def test_cache_where_no_note_can_be_written_is_used_all_the_same(tmp_path: Path) -> None:
    folder = cached(tmp_path, a=b"first")
    (tmp_path / "verified").write_text("a file where the folder should be")
    drop_altered_files(folder, tmp_path / "verified" / "note.json")
    assert (folder / "a").read_bytes() == b"first"


def test_folder_without_links_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / ("0" * 64)).write_bytes(b"not what its name says")
    drop_altered_files(tmp_path / "folder", tmp_path / "note")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    drop_altered_files(tmp_path / "nowhere", tmp_path / "note")


def test_two_folders_of_a_commit_have_two_notes(tmp_path: Path) -> None:
    def note(subfolder: str | None) -> Path:
        revision = Revision(name="x", step=None, source="o/m", revision="x", commit="a" * 40, subfolder=subfolder)
        return verified_file(tmp_path, revision)

    assert len({note(None), note("checkpoint-1"), note("a/b")}) == 3
    assert {note(folder).parent for folder in (None, "a/b")} == {tmp_path / "verified"}
