"""A Hub on loopback, the real client beside it, saved teachers to put there: one of each, for they start slowly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import hub_client
import pytest
from hub_client import Caller
from hub_server import Fault, HubServer
from teacher_folders import save_teacher

TOKEN = "hf_SecretSecretSecretSecretSecret"


@pytest.fixture(scope="session")
def server() -> Iterator[HubServer]:
    with HubServer(token=TOKEN) as running:
        yield running


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's HF_HOME."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def client(server: HubServer, home: Path) -> Iterator[Caller]:
    with hub_client.hub_client(server.url, home, token=TOKEN) as call:
        yield call


@pytest.fixture(scope="session")
def offline(server: HubServer, home: Path) -> Iterator[Caller]:
    """A client with the same cache that may not ask the Hub."""
    with hub_client.hub_client(server.url, home, offline=True) as call:
        yield call


@pytest.fixture
def faults(server: HubServer) -> Iterator[list[Fault]]:
    yield server.faults
    server.faults.clear()


@pytest.fixture
def add(server: HubServer, request: pytest.FixtureRequest) -> Callable[..., str]:
    """Put saved folders on branches of a model of this test's own; return its id."""
    name = f"org/{hashlib.sha1(request.node.nodeid.encode()).hexdigest()[:12]}"

    def put(branches: dict[str, Path], *, title: str = "upload") -> str:
        for branch, folder in branches.items():
            files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            content = {path: file.read_bytes() for path, file in files.items()}
            server.add(name, content, branch=branch, title=title)
        return name

    return put


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folders = [save_teacher(tmp_path_factory.mktemp("saved") / str(seed), seed=seed) for seed in range(3)]
    for folder in folders:
        (folder / "tokenizer.json").write_text("{}")
        (folder / "optimizer.pt").write_bytes(b"not wanted")
    return folders
