from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hub_client
import pytest
from hub_client import Caller
from hub_server import HubServer
from teacher_folders import cache_model, save_teacher, save_trainer_checkpoint

from hf_distill.teachers.listing import list_revisions
from hf_distill.teachers.revisions import resolve_revisions


def listed(spec: Any) -> list[Any]:
    return list_revisions(resolve_revisions(spec))


def download_size(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in ("model.safetensors", "config.json", "tokenizer.json"))


@pytest.mark.hub
def test_size_date_and_cache_of_each_revision_are_told_without_downloading(
    client: Caller, server: HubServer, add: Callable[..., str], saved: list[Path]
) -> None:
    name = add({"step-1": saved[0], "step-2": saved[1], "step-3": saved[2]})
    revisions = client(hub_client.resolve, f"{name}@step-*")
    folder = client(hub_client.folder, revisions[0])
    broken = folder.parent / revisions[1].commit
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    server.requests.clear()
    lines = client(listed, f"{name}@step-*")
    assert [line.cached for line in lines] == ["yes", "in part", "no"]
    assert [line.size for line in lines] == [download_size(folder) for folder in saved]
    dates = [server.store.get(name).commits[line.revision.commit].date for line in lines]
    assert [line.date for line in lines] == dates
    assert not [request for request in server.requests if "/resolve/" in request]


@pytest.mark.hub
def test_listing_works_offline_for_what_is_cached(
    client: Caller, offline: Caller, add: Callable[..., str], saved: list[Path]
) -> None:
    name = add({"step-1": saved[0], "step-2": saved[1]})
    for revision in client(hub_client.resolve, f"{name}@step-*"):
        client(hub_client.folder, revision)
    lines = offline(listed, f"{name}@step-*")
    assert [(line.revision.step, line.cached, line.date) for line in lines] == [(1, "yes", None), (2, "yes", None)]
    assert [line.size for line in lines] == [download_size(folder) for folder in saved[:2]]


def test_local_checkpoints_are_listed_without_their_optimizer(tmp_path: Path) -> None:
    folder = save_trainer_checkpoint(tmp_path / "run", 10)
    [line] = list_revisions(resolve_revisions(tmp_path / "run"))
    names = ("model.safetensors", "config.json", "trainer_state.json")
    assert line.size == sum((folder / name).stat().st_size for name in names)
    assert line.cached == "yes"
    assert line.date is not None


def test_cache_alone_is_listed(tmp_path: Path) -> None:
    cache_model(tmp_path / "cache", "org/model", {"step1": save_teacher(tmp_path / "saved")})
    revisions = resolve_revisions("org/model@step*", cache_dir=tmp_path / "cache")
    [line] = list_revisions(revisions, cache_dir=tmp_path / "cache")
    assert (line.cached, line.revision.name, line.date) == ("yes", "step1", None)
