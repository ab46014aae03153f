from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import hub_client
import pytest
from hub_client import Caller
from hub_server import Fault
from teacher_folders import save_teacher

from hf_distill.teachers.fetcher import Fetcher
from hf_distill.teachers.retry import Backoff, HubUnavailable
from hf_distill.teachers.revisions import Revision, resolve_revisions

AT_ONCE = Backoff(tries=2, first_seconds=0.0)


def fetch(revision: Revision, **options: object) -> Path:
    return Fetcher(backoff=AT_ONCE, **options).folder(revision, show_progress=False)  # type: ignore[arg-type]


def fetch_in_turn(revisions: list[Revision], max_cached_gb: float) -> list[bool]:
    """Fetch revisions one after the other under a budget; return which have their weights in the end."""
    fetcher = Fetcher(max_cached_gb=max_cached_gb, backoff=AT_ONCE)
    folders = []
    for index, revision in enumerate(revisions):
        folders.append(fetcher.folder(revision, show_progress=False))
        fetcher.need(revisions[index:])
    return [(folder / "model.safetensors").exists() for folder in folders]


@pytest.mark.hub
def test_stop_gives_up_after_its_tries_and_wait_does_not(
    client: Caller, add: Callable[..., str], saved: list[Path], faults: list[Fault]
) -> None:
    [revision] = client(hub_client.resolve, add({"main": saved[0]}))
    faults.append(Fault(r"GET .*/resolve/.*model\.safetensors", status=503, times=7))
    with pytest.raises(HubUnavailable, match="the Hub answered 503"):
        client(fetch, revision)
    assert client(fetch, revision, on_download_failure="wait").is_dir()
    assert faults[0].times == 0


@pytest.mark.hub
def test_a_run_within_a_budget_keeps_the_revisions_in_use(
    client: Caller, add: Callable[..., str], saved: list[Path], tmp_path: Path
) -> None:
    folders = {f"step-{seed}": save_teacher(tmp_path / str(seed), seed=seed + 50) for seed in range(4)}
    revisions = client(hub_client.resolve, add(folders) + "@step-*")
    size = (tmp_path / "0" / "model.safetensors").stat().st_size
    assert client(fetch_in_turn, revisions, 2.5 * size / 1e9) == [False, False, True, True]


def test_local_folder_needs_no_network(tmp_path: Path) -> None:
    folder = save_teacher(tmp_path / "model")
    [revision] = resolve_revisions(folder)
    assert Fetcher(max_cached_gb=1e-9).folder(revision, stopped=threading.Event()) == folder


def test_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="on_download_failure: expected `wait` or `stop`, got 'skip'"):
        Fetcher(on_download_failure="skip")  # type: ignore[arg-type]
