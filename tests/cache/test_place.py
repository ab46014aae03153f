from __future__ import annotations

import re
from pathlib import Path

import pytest
from hub_client import Caller
from hub_server import Fault, HubServer

from hf_distill.cache.place import HubCache, cache_folder, cache_place
from hf_distill.teachers.retry import Backoff


def download(cache: str) -> Path | str:
    """Run `cache_folder` with short waits; an error comes back as its text."""
    try:
        return cache_folder(cache, show_progress=False, backoff=Backoff(tries=3, first_seconds=0.01))
    except (ValueError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def test_folders_and_data_sets_are_told_apart(tmp_path: Path) -> None:
    assert cache_place(tmp_path) == tmp_path
    assert cache_place(str(tmp_path)) == tmp_path
    assert cache_folder(tmp_path) == tmp_path
    assert cache_place("org/name") == HubCache("org/name", "main")
    assert cache_place("org/name@v1") == HubCache("org/name", "v1")


@pytest.mark.parametrize("text", ["./nothing", "/nothing/here", "name", "org/name@a,b", "org/name:sub", "~/nothing"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a folder with cached targets nor a data set"):
        cache_place(text)


@pytest.mark.hub
def test_a_data_set_is_downloaded_once(server: HubServer, client: Caller) -> None:
    server.add("datasets/org/targets", {"cache.json": b"{}", "shards/a.safetensors": b"abc"})
    folder = client(download, "org/targets")
    assert (folder / "cache.json").read_bytes() == b"{}"
    assert (folder / "shards/a.safetensors").read_bytes() == b"abc"
    server.requests.clear()
    assert client(download, "org/targets") == folder
    assert not [request for request in server.requests if "resolve" in request]


@pytest.mark.hub
def test_a_pinned_revision_is_the_one_that_is_read(server: HubServer, client: Caller) -> None:
    first = server.add("datasets/org/pinned", {"cache.json": b"1"})
    server.add("datasets/org/pinned", {"cache.json": b"2"})
    assert (client(download, f"org/pinned@{first}") / "cache.json").read_bytes() == b"1"
    assert (client(download, "org/pinned") / "cache.json").read_bytes() == b"2"


@pytest.mark.hub
def test_passing_failures_are_tried_again(server: HubServer, client: Caller) -> None:
    server.add("datasets/org/flaky", {"cache.json": b"{}"})
    server.faults.append(Fault("org/flaky", times=2, status=503))
    assert (client(download, "org/flaky") / "cache.json").is_file()


@pytest.mark.hub
@pytest.mark.parametrize(
    ("cache", "said"),
    [
        ("org/absent", "data set org/absent@main: the Hub answered 404.*no folder of this name"),
        ("org/empty", "org/empty@main holds no cached targets"),
        ("org/empty@v9", "org/empty@v9"),
    ],
)
def test_what_the_hub_does_not_have_is_said(server: HubServer, client: Caller, cache: str, said: str) -> None:
    if "datasets/org/empty" not in server.store.repositories:
        server.add("datasets/org/empty", {"notes.txt": b"nothing"})
    assert re.search(said, str(client(download, cache)))
