"""A Hub on loopback and the real client beside it, started once for the tests of this folder that ask for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import hub_client
import pytest
from hub_client import Caller
from hub_server import HubServer

TOKEN = "hf_" + "SecretTokenOfTheCaches" + "0123456789"


@pytest.fixture(scope="session")
def server() -> Iterator[HubServer]:
    with HubServer(token=TOKEN) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with hub_client.hub_client(server.url, tmp_path_factory.mktemp("home"), token=TOKEN) as call:
        yield call


@pytest.fixture
def repo_id(server: HubServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A name that no other test has; the faults of the test end with it."""
    yield f"org/{hashlib.sha1(request.node.name.encode()).hexdigest()[:12]}"
    server.faults.clear()
