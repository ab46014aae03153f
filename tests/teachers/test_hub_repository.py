"""Resolving and downloading from a Hub on loopback, with the real client, and what the network may do to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hub_client
import pytest
from hub_client import Caller
from hub_server import Fault, HubServer

from hf_distill.teachers.hub_repository import ModelRepository, is_passing
from hf_distill.teachers.weight_files import content_hash

pytestmark = pytest.mark.hub


def test_pattern_is_pinned_and_downloaded_without_what_a_teacher_does_not_need(
    client: Caller, server: HubServer, add: Callable[..., str], saved: list[Path]
) -> None:
    name = add({"step-300": saved[2], "step-20": saved[0], "kd/x": saved[1]})
    found = client(hub_client.resolve, f"{name}@step-*,kd/x")
    assert [(revision.name, revision.step) for revision in found] == [
        ("step-20", 20),
        ("step-300", 300),
        ("kd/x", None),
    ]
    branches = server.store.get(name).branches
    assert [revision.commit for revision in found] == [branches[name] for name in ("step-20", "step-300", "kd/x")]
    assert all(revision.folder is None for revision in found)
    for revision, source in zip(found, [saved[0], saved[2], saved[1]], strict=True):
        folder = client(hub_client.folder, revision)
        assert content_hash(folder) == content_hash(source)
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    again = client(hub_client.resolve, f"{name}@step-*")
    assert [revision.folder for revision in again] == [client(hub_client.folder, revision) for revision in found[:2]]


def test_moved_branch_does_not_move_the_pin(
    client: Caller, server: HubServer, add: Callable[..., str], saved: list[Path]
) -> None:
    [revision] = client(hub_client.resolve, add({"step-1": saved[0]}) + "@step-1")
    add({"step-1": saved[1]})
    assert content_hash(client(hub_client.folder, revision)) == content_hash(saved[0])
    [moved] = client(hub_client.resolve, f"{revision.source}@step-1")
    assert moved.commit != revision.commit
    [by_commit] = client(hub_client.resolve, f"{revision.source}@{revision.commit}")
    assert by_commit.commit == revision.commit


def test_missing_revision_lists_those_that_exist(client: Caller, add: Callable[..., str], saved: list[Path]) -> None:
    name = add({f"step{step}": saved[0] for step in (100, 200, 300)})
    with pytest.raises(ValueError, match=r"no revision 'step210'\. Revisions it has: step200, step300, step100"):
        client(hub_client.resolve, f"{name}@step100,step210")
    with pytest.raises(ValueError, match=r"no branch or tag of .* matches 'epoch\*'"):
        client(hub_client.resolve, f"{name}@epoch*")
    with pytest.raises(ValueError, match=f"has no revision '{'0' * 40}'"):
        client(hub_client.resolve, f"{name}@{'0' * 40}")


@pytest.mark.parametrize("token", ["hf_ExpiredExpiredExpiredExpired", False])
def test_refused_token_is_told_without_the_token(
    token: str | bool, client: Caller, add: Callable[..., str], saved: list[Path]
) -> None:
    with pytest.raises(ValueError, match=r"the Hub answered 401.*hf auth login") as caught:
        client(hub_client.resolve, add({"step1": saved[0]}) + "@step*", token=token)
    assert "Expired" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert "Secret" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_missing_model_is_told(client: Caller) -> None:
    with pytest.raises(ValueError, match=r"model org/none: the Hub answered 404\. It does not exist, is private"):
        client(hub_client.resolve, "org/none")


@pytest.mark.parametrize("status", [500, 429])
def test_failing_hub_never_shortens_a_sequence_to_what_is_cached(
    status: int, client: Caller, add: Callable[..., str], saved: list[Path], faults: list[Fault]
) -> None:
    name = add({"step1": saved[0]})
    client(hub_client.folder, client(hub_client.resolve, f"{name}@step1")[0])
    add({"step2": saved[1]})
    faults.append(Fault(f"{name}/refs", status=status, times=2))
    with pytest.raises(ConnectionError, match=f"the Hub answered {status}"):
        client(hub_client.resolve, f"{name}@step*", tries=2)
    assert len(client(hub_client.resolve, f"{name}@step*")) == 2


def test_name_that_leads_out_of_the_cache_is_refused(
    client: Caller, server: HubServer, add: Callable[..., str], saved: list[Path]
) -> None:
    name = add({"step1": saved[0]})
    repository = server.store.get(name)
    repository.branches["../../../step2"] = repository.branches["step1"]
    with pytest.raises(ValueError, match="not a legal name"):
        client(hub_client.resolve, f"{name}@*step*")


@pytest.mark.slow
def test_unreachable_hub_leaves_what_is_cached_usable(saved: list[Path], tmp_path: Path) -> None:
    with HubServer() as server:
        for branch, folder in (("step1", saved[0]), ("step2", saved[1])):
            files = {path.name: path.read_bytes() for path in folder.iterdir()}
            server.add("org/model", files, branch=branch)
        with hub_client.hub_client(server.url, tmp_path) as client:
            for revision in client(hub_client.resolve, "org/model@step*"):
                client(hub_client.folder, revision)
    with hub_client.hub_client(server.url, tmp_path) as client:
        found = client(hub_client.resolve, "org/model@step*")
        assert [content_hash(client(hub_client.folder, revision)) for revision in found] == [
            content_hash(folder) for folder in saved[:2]
        ]
        with pytest.raises(ValueError, match=r"'step3' .*ConnectError.*hf download org/model --revision step3"):
            client(hub_client.resolve, "org/model@step3")


def test_command_names_all_that_it_needs(tmp_path: Path) -> None:
    repository = ModelRepository("org/model", cache_dir=tmp_path)
    assert repository.download_command("step1", "sub", force=True) == (
        f'hf download org/model --revision step1 --include "sub/*" --cache-dir {tmp_path} --force-download'
    )


def test_only_passing_answers_are_tried_again() -> None:
    assert [is_passing(status) for status in (500, 503, 429, 400, 401, 404)] == [True] * 3 + [False] * 3


def test_history_comes_oldest_first_with_titles_and_dates(
    client: Caller, server: HubServer, add: Callable[..., str], saved: list[Path]
) -> None:
    name = add({"main": saved[0]})
    server.add(name, {"config.json": b"{}"}, title="later")
    history = client(history_of, name)
    assert [commit.title for commit in history] == ["initial commit", "upload", "later"]
    assert [commit.date for commit in history] == sorted(commit.date for commit in history)
    assert client(date_of, name, history[1].commit) == history[1].date


def history_of(name: str) -> object:
    return ModelRepository(name).history("main")


def date_of(name: str, commit: str) -> object:
    return ModelRepository(name).date_of(commit)
