"""What the network, the disk and a kill may do to a download: nothing is lost, left out or half there."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import hub_client
import pytest
import torch
from hub_client import Caller
from hub_server import Fault, HubServer
from safetensors.torch import save_file
from teacher_folders import save_teacher

from hf_distill.teachers.checkpoint_files import whole_checkpoint_problem
from hf_distill.teachers.weight_files import content_hash

pytestmark = pytest.mark.hub

WEIGHTS = r"GET .*/resolve/.*model\.safetensors"
TREE = r"GET .*/tree/"


@pytest.fixture
def faults(server: HubServer) -> Iterator[list[Fault]]:
    yield server.faults
    server.faults.clear()


@pytest.fixture
def teacher(server: HubServer, repo_id: str, tmp_path: Path) -> Path:
    """A teacher with weights of its own, on the branch step-1."""
    seed = int(hashlib.sha1(repo_id.encode()).hexdigest()[:6], 16)
    folder = save_teacher(tmp_path / "teacher", seed=seed)
    server.add(repo_id, {path.name: path.read_bytes() for path in folder.iterdir()}, branch="step-1")
    return folder


def altered(content: bytes) -> bytes:
    return content[:-4] + b"evil"


SURVIVED: dict[str, list[Callable[[], Fault]]] = {
    "500 on the listing": [lambda: Fault(TREE, status=500, times=2)],
    "500 on the weights": [lambda: Fault(WEIGHTS, status=500, times=2)],
    "502, 503, 504 in turn": [partial(Fault, WEIGHTS, status=status) for status in (502, 503, 504)],
    "429 with Retry-After": [lambda: Fault(WEIGHTS, status=429, retry_after=0, times=2)],
    "429 on the listing": [lambda: Fault(TREE, status=429, retry_after=0, times=2)],
    "cut once": [lambda: Fault(WEIGHTS, cut_at=3000)],
    "cut at three places": [partial(Fault, WEIGHTS, cut_at=cut) for cut in (0, 100, 5000)],
    "truncated twice": [lambda: Fault(WEIGHTS, change=lambda content: content[:2000], times=2)],
    "longer than announced": [lambda: Fault(WEIGHTS, change=lambda content: content + b"x" * 999, times=2)],
    "altered twice": [lambda: Fault(WEIGHTS, change=altered, times=2)],
    "configuration altered": [lambda: Fault(r"GET .*/resolve/.*config\.json", change=altered)],
    "all at once": [
        lambda: Fault(TREE, status=503),
        lambda: Fault(WEIGHTS, status=500),
        lambda: Fault(WEIGHTS, cut_at=10),
        lambda: Fault(WEIGHTS, change=altered),
    ],
}


@pytest.mark.parametrize("name", SURVIVED)
def test_passing_fault_costs_only_time(
    name: str, client: Caller, faults: list[Fault], repo_id: str, teacher: Path
) -> None:
    [revision] = client(hub_client.resolve, f"{repo_id}@step-1")
    faults += [fault() for fault in SURVIVED[name]]
    folder = client(hub_client.folder, revision, tries=4)
    assert content_hash(folder) == content_hash(teacher)
    assert [fault.times for fault in faults] == [0] * len(faults)


REFUSED: dict[str, tuple[Fault, str]] = {
    "down": (Fault(WEIGHTS, status=500, times=99), "the Hub answered 500"),
    "always truncated": (Fault(WEIGHTS, change=lambda content: content[:2000], times=99), "another size"),
    "always longer": (Fault(WEIGHTS, change=lambda content: content + b"x", times=99), "another size"),
    "always altered": (Fault(WEIGHTS, change=altered, times=99), "another content than the Hub announced"),
    "token expired": (Fault(WEIGHTS, status=401, times=99), r"the Hub answered 401.*hf auth login"),
    "access withdrawn": (Fault(WEIGHTS, status=403, times=99), "the Hub answered 403"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_lasting_fault_is_refused_without_a_trace_and_the_next_start_recovers(
    name: str, client: Caller, faults: list[Fault], repo_id: str, teacher: Path, token: str
) -> None:
    [revision] = client(hub_client.resolve, f"{repo_id}@step-1")
    fault, message = REFUSED[name]
    fault.times = 99
    faults.append(fault)
    with pytest.raises((ValueError, ConnectionError), match=message) as caught:
        client(hub_client.folder, revision, tries=2)
    assert token not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert client(cached_weights, revision) == []
    faults.clear()
    assert content_hash(client(hub_client.folder, revision)) == content_hash(teacher)


def cached_weights(revision: Any) -> list[str]:
    """Names in the cache of weights that a model could be loaded from, and of unfinished files."""
    from huggingface_hub import constants

    storage = Path(constants.HF_HUB_CACHE) / f"models--{revision.source.replace('/', '--')}"
    weights = list((storage / "snapshots").rglob("*.safetensors"))
    return [path.name for path in [*weights, *storage.rglob("*.incomplete")]]


def test_branch_that_moves_during_the_download_does_not_change_what_arrives(
    client: Caller, server: HubServer, faults: list[Fault], repo_id: str, teacher: Path, tmp_path: Path
) -> None:
    [revision] = client(hub_client.resolve, f"{repo_id}@step-1")
    other = save_teacher(tmp_path / "other", seed=99)
    files = {path.name: path.read_bytes() for path in other.iterdir()}
    faults.append(Fault(TREE, before=lambda: server.add(repo_id, files, branch="step-1")))
    assert content_hash(client(hub_client.folder, revision)) == content_hash(teacher)
    [moved] = client(hub_client.resolve, f"{repo_id}@step-1")
    assert moved.commit != revision.commit
    assert content_hash(client(hub_client.folder, moved)) == content_hash(other)


def fetch_with_room_for(revision: Any, size: int) -> Path:
    """Download with a limit on the size of files, which is how a full disk looks to the one who writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        return hub_client.folder(revision, tries=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_is_told_and_leaves_nothing_half_written(client: Caller, repo_id: str, teacher: Path) -> None:
    [revision] = client(hub_client.resolve, f"{repo_id}@step-1")
    with pytest.raises(OSError, match=r"no room for step-1 of .*max_cached_gb"):
        client(fetch_with_room_for, revision, 4096)
    assert client(cached_weights, revision) == []
    assert content_hash(client(hub_client.folder, revision)) == content_hash(teacher)


def test_process_killed_during_a_download_is_started_again_and_recovers(
    server: HubServer, faults: list[Fault], repo_id: str, tmp_path: Path, token: str
) -> None:
    # More than one block of the client, so that a part is on the disk when the kill comes.
    weights = tmp_path / "model.safetensors"
    save_file({"a": torch.arange(3_500_000, dtype=torch.float32)}, weights)
    files = {"config.json": b'{"model_type": "bert"}', "model.safetensors": weights.read_bytes()}
    server.add(repo_id, files, branch="step-1")
    with hub_client.hub_client(server.url, tmp_path / "home", token=token) as client:
        [revision] = client(hub_client.resolve, f"{repo_id}@step-1")
        process = client(os.getpid)
        faults += [
            Fault(WEIGHTS, cut_at=12_000_000),
            Fault(WEIGHTS, before=lambda: os.kill(process, signal.SIGKILL)),
        ]
        with pytest.raises(BrokenProcessPool):
            client(hub_client.folder, revision)
    [part] = (tmp_path / "home").rglob("*.incomplete")
    assert 0 < part.stat().st_size < len(files["model.safetensors"])
    with hub_client.hub_client(server.url, tmp_path / "home", token=token) as client:
        [again] = client(hub_client.resolve, f"{repo_id}@step-1")
        assert (again.commit, again.folder) == (revision.commit, None)
        folder = client(hub_client.folder, again)
    assert whole_checkpoint_problem(folder) is None
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]


def test_altered_download_whose_process_was_killed_before_its_check_is_not_trusted_at_the_next_start(
    client: Caller, faults: list[Fault], repo_id: str, teacher: Path
) -> None:
    [revision] = client(hub_client.resolve, f"{repo_id}@step-1")
    faults.append(Fault(WEIGHTS, change=altered))
    # The client alone, which compares sizes only: what is in the cache when the kill comes before our check.
    client(hub_client.api, "snapshot_download", repo_id, revision=revision.commit)
    [cached] = client(hub_client.resolve, f"{repo_id}@step-1")
    assert cached.folder is not None and content_hash(cached.folder) != content_hash(teacher)
    assert content_hash(client(hub_client.folder, cached)) == content_hash(teacher)


def test_cache_that_was_compared_once_is_not_read_again_before_it_is_used(
    client: Caller, repo_id: str, teacher: Path
) -> None:
    [revision] = client(hub_client.resolve, f"{repo_id}@step-1")
    weights = client(hub_client.folder, revision) / "model.safetensors"
    written = weights.stat()
    weights.resolve().write_bytes(altered(weights.read_bytes()))
    # With its old time the content that changed would be noticed by reading it, and by nothing else.
    os.utime(weights, ns=(written.st_atime_ns, written.st_mtime_ns))
    client(hub_client.folder, revision)
    assert weights.read_bytes().endswith(b"evil")
    os.utime(weights, ns=(written.st_atime_ns, written.st_mtime_ns + 1))
    assert content_hash(client(hub_client.folder, revision)) == content_hash(teacher)


def train(output: Path, spec: str, *, resume: bool = False, wait: bool = False) -> dict[str, Any]:
    """Train a tiny student on three revisions for 9 steps; return its weights' hash and where stalls were logged."""
    from builders import distill_trainer, examples, flat_weights, tiny_model

    from hf_distill import TeacherSequence
    from hf_distill.teachers.retry import Backoff

    policy = "wait" if wait else "stop"
    backoff = Backoff(tries=2, first_seconds=0.01, longest_seconds=0.02)
    trainer = distill_trainer(
        output,
        model=tiny_model("classification", seed=1, hidden_dropout_prob=0.2),
        teacher=TeacherSequence(spec, on_download_failure=policy, backoff=backoff),  # type: ignore[arg-type]
        train_dataset=examples("classification", count=24),
        curriculum={"name": "n_shot", "steps": 3},
        max_steps=9,
        optim="adamw_torch",
        learning_rate=1e-2,
    )
    trainer.train(resume_from_checkpoint=resume or None)
    weights = hashlib.sha256(flat_weights(trainer.model).numpy().tobytes()).hexdigest()
    stalls = [entry["step"] for entry in trainer.state.log_history if "teacher/stall_seconds" in entry]
    return {"weights": weights, "stalls": stalls, "recorded": len(trainer.distillation.log.stalls)}


@pytest.fixture
def sequence(server: HubServer, repo_id: str, tmp_path: Path) -> str:
    """Three revisions that the tiny student can learn from."""
    from builders import tiny_model

    for step in (1, 2, 3):
        tiny_model("classification", seed=step).save_pretrained(tmp_path / f"step-{step}")
        folder = tmp_path / f"step-{step}"
        server.add(repo_id, {path.name: path.read_bytes() for path in folder.iterdir()}, branch=f"step-{step}")
    return f"{repo_id}@step-*"


def weights_of(server: HubServer, repo_id: str, branch: str) -> str:
    return rf"GET .*/resolve/{server.store.get(repo_id).branches[branch]}/model\.safetensors"


@pytest.mark.slow
def test_revision_that_cannot_be_had_stops_training_with_a_checkpoint_and_resuming_changes_nothing(
    server: HubServer, faults: list[Fault], repo_id: str, sequence: str, tmp_path: Path, token: str
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    with hub_client.hub_client(server.url, tmp_path / "home", token=token) as client:
        expected = client(train, whole, sequence)
    assert expected["stalls"] == [1, 4, 7]
    assert expected["recorded"] == 3
    with hub_client.hub_client(server.url, tmp_path / "other-home", token=token) as client:
        faults.append(Fault(weights_of(server, repo_id, "step-2"), status=503, times=999))
        with pytest.raises(ConnectionError, match=r"step-2 of .* cannot be had.*answered 503") as caught:
            client(train, broken, sequence)
        assert "saved a checkpoint" in str(caught.value)
        assert token not in str(caught.value)
        assert [path.name for path in broken.glob("checkpoint-*")] == ["checkpoint-3"]
        state = json.loads((broken / "checkpoint-3" / "trainer_state.json").read_text())
        assert state["global_step"] == 3
        faults.clear()
        assert client(train, broken, sequence, resume=True)["weights"] == expected["weights"]


@pytest.mark.slow
def test_waiting_run_goes_on_once_the_hub_is_back_as_if_nothing_had_been(
    server: HubServer, faults: list[Fault], repo_id: str, sequence: str, tmp_path: Path, token: str
) -> None:
    with hub_client.hub_client(server.url, tmp_path / "home", token=token) as client:
        expected = client(train, tmp_path / "whole", sequence)
    with hub_client.hub_client(server.url, tmp_path / "other-home", token=token) as client:
        faults.append(Fault(weights_of(server, repo_id, "step-2"), status=503, times=12))
        faults.append(Fault(weights_of(server, repo_id, "step-3"), cut_at=50, times=1))
        assert client(train, tmp_path / "waiting", sequence, wait=True)["weights"] == expected["weights"]
    assert [fault.times for fault in faults] == [0, 0]
