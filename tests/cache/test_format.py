from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from hf_distill.cache.format import MANIFEST, Manifest, Settings, StoredFile, check_files

SETTINGS = Settings(codec={"name": "logits"}, head="classification", vocabulary=3, inputs=["input_ids"])
REVISIONS = [{"name": "step1", "step": 1, "source": "org/model", "revision": "step1", "commit": "a" * 40}]


def stored(folder: Path, path: str, content: bytes) -> StoredFile:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_bytes(content)
    return StoredFile(
        path=path,
        sha256=hashlib.sha256(content).hexdigest(),
        size=len(content),
        commit="a" * 40 if path.startswith(("shards", "heads")) else None,
        examples=5 if path.startswith("shards") else 0,
        rows=9 if path.startswith("shards") else 0,
    )


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    files = [stored(tmp_path, f"{part}/x.safetensors", part.encode()) for part in ("shards", "index", "heads")]
    made = Manifest(settings=SETTINGS, revisions=REVISIONS).with_files(
        files, complete=True, walks={"w": 7}, data={"fingerprint": "f"}, teacher={"parameters": 12}
    )
    made.save(tmp_path)
    return made


def test_a_manifest_reads_back_equal(tmp_path: Path, manifest: Manifest) -> None:
    again = Manifest.load(tmp_path)
    assert again == manifest
    assert again.digest() == manifest.digest()
    assert (again.examples, again.rows, again.size) == (5, 9, sum(len(p) for p in ("shards", "index", "heads")))
    assert again.head_file("a" * 40).path == "heads/x.safetensors"
    assert again.head_file("b" * 40) is None
    check_files(tmp_path, again.files)


def test_a_folder_without_a_manifest_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no cached targets: it has no cache\.json.*hf-distill cache RECIPE"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("before", "after"),
    [('"examples": 5', '"examples": 6'), ('"complete": true', '"complete": false'), ('"step1"', '"step2"')],
)
def test_a_manifest_that_somebody_or_something_changed_is_refused(tmp_path, manifest, before, after):
    path = tmp_path / MANIFEST
    path.write_text(path.read_text().replace(before, after, 1))
    with pytest.raises(ValueError, match=r"cache\.json is damaged: it does not match its own checksum"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 1}'])
def test_a_broken_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(ValueError, match=r"cache\.json is damaged"):
        Manifest.load(tmp_path)


def test_a_manifest_of_another_version_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    content = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**content, "schema": 2}))
    with pytest.raises(ValueError, match="has schema 2, this version of hf_distill reads 1"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "shards/x.safetensors is missing"),
        (lambda path: path.write_bytes(b"sha"), "shards/x.safetensors is cut short: 3 bytes instead of 6"),
        (lambda path: path.write_bytes(b"shards too"), "shards/x.safetensors is too long: 10 bytes instead of 6"),
        (lambda path: path.write_bytes(b"shardS"), "shards/x.safetensors is damaged: its content does not match"),
    ],
)
def test_every_kind_of_damage_is_named(tmp_path, manifest, damage, said):
    damage(tmp_path / "shards/x.safetensors")
    with pytest.raises(ValueError, match=re.escape(said)):
        check_files(tmp_path, manifest.files)


def test_all_damaged_files_are_named_and_progress_is_told(tmp_path: Path, manifest: Manifest) -> None:
    for part in ("index", "heads"):
        (tmp_path / part / "x.safetensors").unlink()
    read: list[int] = []
    with pytest.raises(ValueError, match=r"heads/x\.safetensors is missing; index/x\.safetensors is missing"):
        check_files(tmp_path, manifest.files, on_bytes=read.append)
    assert sum(read) == manifest.size


def test_a_manifest_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    file = StoredFile(path="../secret", sha256="0" * 64, size=1)
    with pytest.raises(ValueError, match=r"names '\.\./secret', which is no file of its folder"):
        check_files(tmp_path, [file])
