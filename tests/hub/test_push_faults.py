"""A bad network and a killed process: no revision is ever half there, and the next start completes the work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_client import Caller
from hub_push import publish, push
from hub_server import Fault, HubServer
from sample_records import sample_record
from teacher_folders import save_teacher, save_trainer_checkpoint

pytestmark = [pytest.mark.hub, pytest.mark.slow]

STEPS = (4, 8)
ROUTES = {
    "create the repository": r"POST /api/repos/create",
    "list revisions": r"GET .*/refs",
    "list files": r"GET .*/tree/",
    "make a branch": r"POST .*/branch/",
    "announce files": r"POST .*/preupload/",
    "announce large files": r"POST .*/objects/batch",
    "send a large file": r"PUT /lfs/",
    "commit": r"POST .*/commit/",
    "delete a branch": r"DELETE .*/branch/",
}
FAULTS: dict[str, dict] = {
    "500": {"status": 500, "times": 2},
    "429": {"status": 429, "times": 2},
    "done, but the answer is cut": {"cut_at": 0},
}


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A training with two checkpoints; the weights are of this test alone, so that all of them are sent."""
    for step in STEPS:
        save_trainer_checkpoint(tmp_path / "run", step, seed=zlib.crc32(str(tmp_path).encode()) + step)
    return tmp_path / "run"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    record = sample_record()
    record.runs = record.runs[:1]
    (tmp_path / "students").mkdir()
    record.save(tmp_path / "students")
    save_teacher(tmp_path / "students" / record.runs[0].folder, seed=zlib.crc32(str(tmp_path).encode()))
    return tmp_path / "students"


def files_of(server: HubServer, name: str, revision: str) -> dict[str, bytes]:
    commit = server.store.get(name).resolve(revision)
    return {path: server.store.blobs[digest] for path, digest in commit.files.items() if path != ".gitattributes"}


def expect_nothing_half_written(server: HubServer, name: str, teacher: Path) -> None:
    """Every revision there is has all files of its checkpoint; main has the finished model or nothing yet."""
    if name not in server.store.repositories:
        return
    repository = server.store.get(name)
    for step in STEPS:
        if f"step-{step}" in repository.branches:
            kept = files_of(server, name, f"step-{step}")
            folder = teacher / f"checkpoint-{step}"
            assert kept == {file: (folder / file).read_bytes() for file in ("config.json", "model.safetensors")}
    main = files_of(server, name, "main")
    if main:
        assert main["model.safetensors"] == (teacher / f"checkpoint-{STEPS[-1]}" / "model.safetensors").read_bytes()
        assert main.keys() == {"README.md", "config.json", "model.safetensors"}


def expect_complete(server: HubServer, name: str, teacher: Path) -> None:
    assert set(server.store.get(name).branches) == {"main", *(f"step-{step}" for step in STEPS)}
    expect_nothing_half_written(server, name, teacher)
    assert files_of(server, name, "main"), "the finished model is not on main"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("route", ROUTES)
def test_publishing_survives_a_passing_failure(
    server: HubServer, client: Caller, repo_id: str, teacher: Path, route: str, fault: str
) -> None:
    server.faults.append(Fault(ROUTES[route], **FAULTS[fault]))
    done = client(publish, teacher, repo_id)
    assert done.error is None
    assert server.faults[0].times == 0, "the fault was never met"
    expect_complete(server, repo_id, teacher)
    assert len(server.store.get(repo_id).commits) == 1 + len(STEPS) + 1, "a commit was made twice"


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("route", ["create the repository", "announce files", "send a large file", "commit"])
def test_pushing_survives_a_passing_failure(
    server: HubServer, client: Caller, repo_id: str, run_dir: Path, route: str, fault: str
) -> None:
    server.faults.append(Fault(ROUTES[route], **FAULTS[fault]))
    done = client(push, run_dir, repo_id)
    assert done.error is None
    assert server.faults[0].times == 0, "the fault was never met"
    assert {"README.md", "model.safetensors", "run_record.json"} <= files_of(server, repo_id, "main").keys()
    assert len(server.store.get(repo_id).commits) == 2


def test_a_hub_that_stays_away_leaves_nothing_half_done_and_the_next_start_completes(
    server: HubServer, client: Caller, repo_id: str, teacher: Path
) -> None:
    server.faults.append(Fault(ROUTES["commit"], status=503, times=50))
    failed = client(publish, teacher, repo_id, tries=3)
    assert failed.error.startswith("HubUnavailable")
    expect_nothing_half_written(server, repo_id, teacher)
    server.faults.clear()
    assert client(publish, teacher, repo_id).error is None
    expect_complete(server, repo_id, teacher)


@pytest.mark.parametrize("work", ["publish", "push"])
def test_an_expired_token_stops_at_once_without_showing_it_and_a_new_one_goes_on(
    server: HubServer, client: Caller, repo_id: str, teacher: Path, run_dir: Path, token: str, work: str
) -> None:
    function, folder = (publish, teacher) if work == "publish" else (push, run_dir)
    server.faults.append(Fault(ROUTES["commit"], status=401, times=50))
    failed = client(function, folder, repo_id, token=token)
    assert "expired" in failed.error and "hf auth login" in failed.error
    assert server.faults[0].times == 49, "a refusal was tried again"
    assert token not in failed.error + failed.text
    wrong = "hf_" + "AnotherSecretThatIsWrong"
    refused = client(function, folder, repo_id, token=wrong)
    assert "the Hub answered 401" in refused.error
    assert wrong not in refused.error + refused.text
    server.faults.clear()
    assert client(function, folder, repo_id, token=token).error is None
    if work == "publish":
        expect_complete(server, repo_id, teacher)


@pytest.mark.parametrize("status", [500, 429, 403])
def test_no_failure_shows_the_token(
    server: HubServer, client: Caller, repo_id: str, teacher: Path, token: str, status: int
) -> None:
    server.faults.append(Fault(r".", status=status, times=500))
    failed = client(publish, teacher, repo_id, tries=2)
    assert failed.error is not None
    assert token not in failed.error + failed.text


def test_somebody_elses_commit_in_between_is_not_overwritten(
    server: HubServer, client: Caller, repo_id: str, run_dir: Path
) -> None:
    server.add(repo_id, {"config.json": b"{}"})

    def other_commit() -> None:
        repository = server.store.get(repo_id)
        files = {**repository.resolve("main").files, "NOTES.md": server.store.put(b"by hand")}
        repository.commit("main", files, title="by hand")

    server.faults.append(Fault(ROUTES["commit"], before=other_commit))
    assert client(push, run_dir, repo_id).error is None
    assert server.faults[0].times == 0
    kept = files_of(server, repo_id, "main")
    assert kept["NOTES.md"] == b"by hand"
    assert "model.safetensors" in kept
    assert [commit.title for commit in server.store.get(repo_id).history("main")][1] == "by hand"


def test_a_revision_that_moved_while_publishing_holds_only_its_own_files(
    server: HubServer, client: Caller, repo_id: str, teacher: Path
) -> None:
    def foreign_file() -> None:
        repository = server.store.get(repo_id)
        for branch in [name for name in repository.branches if name != "main"]:
            files = {**repository.resolve(branch).files, "foreign.txt": server.store.put(b"x")}
            repository.commit(branch, files, title="foreign")

    server.faults.append(Fault(ROUTES["commit"], before=foreign_file))
    assert client(publish, teacher, repo_id).error is None
    expect_complete(server, repo_id, teacher)


KILL_PUBLISHING = {
    "before the repository": (ROUTES["create the repository"], 0, True),
    "while a large file is sent": (ROUTES["send a large file"], 0, True),
    "before the second commit": (ROUTES["commit"], 1, True),
    "after the second commit": (ROUTES["commit"], 1, False),
    "before the revision gets its name": (r"POST .*/branch/step-8", 0, True),
    "after the last commit": (r"POST .*/commit/main", 0, False),
}


@pytest.mark.parametrize("moment", KILL_PUBLISHING)
def test_killed_publishing_goes_on_where_it_was(
    server: HubServer, client: Caller, repo_id: str, teacher: Path, tmp_path: Path, token: str, moment: str
) -> None:
    pattern, skip, lost = KILL_PUBLISHING[moment]
    code = killed(server, "publish", teacher, repo_id, tmp_path, token=token, pattern=pattern, skip=skip, lost=lost)
    assert code == -signal.SIGKILL
    expect_nothing_half_written(server, repo_id, teacher)
    assert client(publish, teacher, repo_id).error is None
    expect_complete(server, repo_id, teacher)
    assert len(server.store.get(repo_id).commits) == 1 + len(STEPS) + 1, "a commit was made twice"


@pytest.mark.parametrize(
    ("route", "lost"), [("send a large file", True), ("commit", True), ("commit", False)], ids=str
)
def test_killed_pushing_leaves_main_as_it_was_or_complete(
    server: HubServer,
    client: Caller,
    repo_id: str,
    run_dir: Path,
    tmp_path: Path,
    token: str,
    route: str,
    lost: bool,
) -> None:
    code = killed(server, "push", run_dir, repo_id, tmp_path, token=token, pattern=ROUTES[route], skip=0, lost=lost)
    assert code == -signal.SIGKILL
    assert bool(files_of(server, repo_id, "main")) is not lost
    assert client(push, run_dir, repo_id).error is None
    assert {"README.md", "model.safetensors", "run_record.json"} <= files_of(server, repo_id, "main").keys()
    assert len(server.store.get(repo_id).commits) == 2


def killed(
    server: HubServer,
    work: str,
    folder: Path,
    repo_id: str,
    scratch: Path,
    *,
    token: str,
    pattern: str,
    skip: int,
    lost: bool,
) -> int:
    """Run publishing or pushing in a process that is killed at a request; return its exit code.

    Args:
        server: The Hub.
        work: "publish" or "push".
        folder: What to publish.
        repo_id: Where.
        scratch: For the client's cache.
        token: The client's.
        pattern: The request.
        skip: How many such requests to let pass before.
        lost: Whether the request was lost, or done all the same.
    """
    process: list[subprocess.Popen] = []
    started = threading.Event()

    def kill() -> None:
        started.wait(60)
        os.kill(process[0].pid, signal.SIGKILL)
        process[0].wait()

    server.faults += [Fault(pattern, times=skip, before=_nothing)] if skip else []
    server.faults.append(Fault(pattern, before=kill, status=500 if lost else None))
    tests = Path(__file__).resolve().parents[1]
    environment = {
        **os.environ,
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(scratch / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": token,
        "PYTHONPATH": f"{tests}{os.pathsep}{tests.parent}",
    }
    script = "import sys; from pathlib import Path; import hub_push"
    script += f"; sys.exit(hub_push.{work}(Path(sys.argv[1]), sys.argv[2]).error)"
    process.append(subprocess.Popen([sys.executable, "-c", script, str(folder), repo_id], env=environment))
    started.set()
    return process[0].wait(120)


_nothing: Callable[[], None] = lambda: None  # noqa: E731
