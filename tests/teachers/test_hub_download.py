"""Downloading from a Hub on loopback with the real client: what arrives, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import hub_client
import pytest
from hub_client import Caller
from hub_server import Fault, HubServer
from teacher_folders import save_pickled_teacher, save_teacher

from hf_distill.teachers.hub_download import download_bytes, drop_leftovers, file_patterns
from hf_distill.teachers.hub_repository import FileEntry
from hf_distill.teachers.weight_files import content_hash, file_sha256

pytestmark = pytest.mark.hub


def test_sub_folder_is_downloaded_alone(
    client: Caller, add: Callable[..., str], saved: list[Path], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    for step in (20, 100):
        save_teacher(root / f"checkpoint-{step}", seed=step)
    found = client(hub_client.resolve, add({"main": root}) + ":checkpoint-*")
    assert [revision.name for revision in found] == ["checkpoint-20", "checkpoint-100"]
    folder = client(hub_client.folder, found[1])
    assert content_hash(folder) == content_hash(root / "checkpoint-100")
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint-100"]


def test_model_at_the_root_does_not_bring_its_checkpoints(
    client: Caller, add: Callable[..., str], tmp_path: Path
) -> None:
    save_teacher(tmp_path / "root")
    save_teacher(tmp_path / "root" / "checkpoint-5")
    folder = client(hub_client.folder, client(hub_client.resolve, add({"main": tmp_path / "root"}))[0])
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_pickled_repository_is_refused_before_its_weights_are_downloaded(
    client: Caller, server: HubServer, add: Callable[..., str], tmp_path: Path
) -> None:
    name = add({"main": save_pickled_teacher(tmp_path / "old")})
    with pytest.raises(ValueError, match="allow_pickled_weights"):
        client(hub_client.resolve, name)
    assert not [request for request in server.requests if f"{name}/resolve" in request]
    [revision] = client(hub_client.resolve, name, allow_pickled_weights=True)
    folder = client(hub_client.folder, revision, allow_pickled_weights=True)
    assert (folder / "pytorch_model.bin").is_file()


@pytest.mark.parametrize("name", ["../evil.json", "a/../../evil.json", "/evil.json", "sub\\evil.json"])
def test_file_name_that_leads_out_of_the_folder_is_refused_before_anything_is_written(
    name: str, client: Caller, server: HubServer, saved: list[Path], home: Path
) -> None:
    model = f"org/outside-{len(name)}-{name.count('.')}"
    files = {path.name: path.read_bytes() for path in saved[0].iterdir()}
    server.add(model, files)
    [revision] = client(hub_client.resolve, model)
    with server.store.lock:
        repository = server.store.get(model)
        repository.commits[revision.commit].files[name] = server.store.put(b"evil")
    with pytest.raises(ValueError, match="would be written outside its folder; the repository is refused"):
        client(hub_client.folder, revision)
    assert not list(home.rglob("evil*"))
    assert not [request for request in server.requests if f"{model}/resolve" in request]


def blob(folder: Path, content: bytes, name: str) -> Path:
    """A file in the cache's layout: a link to a content that is called by its hash."""
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    (folder / "snapshot").mkdir(exist_ok=True)
    (folder / "blobs" / name).write_bytes(content)
    (folder / "snapshot" / f"{name[:4]}.json").symlink_to(folder / "blobs" / name)
    return folder / "snapshot"


def test_leftovers_are_looked_for_beside_links_only(saved: list[Path]) -> None:
    before = content_hash(saved[0])
    drop_leftovers(saved[0], older_than=0)
    assert content_hash(saved[0]) == before


def test_leftovers_of_killed_downloads_go_and_those_of_running_ones_stay(tmp_path: Path) -> None:
    content = b"x" * 10
    (tmp_path / "content").write_bytes(content)
    name = file_sha256(tmp_path / "content")
    folder = blob(tmp_path, content, name)
    old, young = (tmp_path / "blobs" / f"{name}.{word}.incomplete" for word in ("aaaa0000", "bbbb1111"))
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (0, 0))
    drop_leftovers(folder)
    assert not old.exists()
    assert young.exists()
    assert (tmp_path / "blobs" / name).exists()


def test_size_counts_what_a_download_brings() -> None:
    names = ("model.safetensors", "config.json", "optimizer.pt", "pytorch_model.bin", "sub/model.safetensors")
    entries = {name: FileEntry(10**index, "") for index, name in enumerate(names)}
    assert download_bytes(entries) == 11
    assert download_bytes(entries, allow_pickled_weights=True) == 1011
    assert download_bytes(entries, "sub") == 10_000
    assert "*.bin" not in file_patterns()


def test_wrong_content_three_times_is_refused(
    client: Caller, add: Callable[..., str], tmp_path: Path, faults: list[Fault]
) -> None:
    folder = save_teacher(tmp_path / "own", seed=124)
    [revision] = client(hub_client.resolve, add({"main": folder}))
    altered = Fault(r"GET .*/resolve/.*model\.safetensors", times=3, change=lambda content: content[:-4] + b"evil")
    faults.append(altered)
    with pytest.raises(ValueError, match="another content than the Hub announced"):
        client(hub_client.folder, revision)
    assert altered.times == 0
    assert content_hash(client(hub_client.folder, revision)) == content_hash(folder)
