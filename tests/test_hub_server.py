"""The loopback Hub against the real client: what other tests rely on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hub_client
import pytest
from hub_client import Caller
from hub_server import Fault, HubServer

pytestmark = pytest.mark.hub


@pytest.fixture(scope="module")
def server() -> Iterator[HubServer]:
    with HubServer() as running:
        yield running


@pytest.fixture(scope="module")
def client(server: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with hub_client.hub_client(server.url, tmp_path_factory.mktemp("home")) as call:
        yield call


@pytest.fixture
def model(server: HubServer, request: pytest.FixtureRequest) -> Iterator[str]:
    name = f"org/{request.node.name.replace('[', '-').replace(']', '')[:60]}"
    server.add(name, {"config.json": b"{}", "model.safetensors": b"weights"}, title="step 1")
    yield name
    server.faults.clear()


def test_folder_round_trip_with_branch_and_tag(server: HubServer, client: Caller, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Card\n")
    (source / "model.safetensors").write_bytes(b"x" * 100_000)
    (source / "sub" / "notes.txt").write_text("hello")
    name = "org/round-trip"
    client(hub_client.api, "create_repo", name)
    client(hub_client.api, "create_repo", name, exist_ok=True)
    client(hub_client.api, "create_branch", name, branch="kd/step-2")
    client(hub_client.api, "upload_folder", repo_id=name, folder_path=source, revision="kd/step-2")
    client(hub_client.api, "create_tag", name, tag="v1", revision="kd/step-2")
    refs = client(hub_client.api, "list_repo_refs", name)
    assert [branch.name for branch in refs.branches] == ["main", "kd/step-2"]
    assert refs.tags[0].target_commit == refs.branches[1].target_commit
    copy = Path(client(hub_client.api, "snapshot_download", name, revision="v1"))
    for path in source.rglob("*.*"):
        assert (copy / path.relative_to(source)).read_bytes() == path.read_bytes()
    assert client(hub_client.api, "list_repo_files", name) == [".gitattributes"]
    again = client(hub_client.api, "upload_folder", repo_id=name, folder_path=source, revision="kd/step-2")
    assert again.oid == refs.tags[0].target_commit


def test_history_tree_and_deletion(server: HubServer, client: Caller, model: str) -> None:
    server.add(model, {"config.json": b"{}", "deep/er/a.bin": b"1"}, title="step 2")
    assert [commit.title for commit in client(hub_client.api, "list_repo_commits", model)][:2] == ["step 2", "step 1"]
    assert client(hub_client.api, "file_exists", model, "deep/er/a.bin")
    assert not client(hub_client.api, "file_exists", model, "nothing")
    assert client(hub_client.api, "get_paths_info", model, ["deep/er/a.bin"])[0].lfs.size == 1
    client(hub_client.api, "delete_folder", "deep", model)
    assert client(hub_client.api, "list_repo_files", model) == ["config.json"]
    client(hub_client.api, "delete_repo", model)
    assert not client(hub_client.api, "repo_exists", model)


def test_stale_parent_commit_is_refused(client: Caller, model: str) -> None:
    first = client(hub_client.api, "model_info", model).sha
    options = {"path_or_fileobj": b"1", "repo_id": model, "parent_commit": first}
    client(hub_client.api, "upload_file", path_in_repo="a.txt", **options)
    with pytest.raises(Exception, match="412"):
        client(hub_client.api, "upload_file", path_in_repo="b.txt", **options)


def test_missing_things_get_the_errors_that_the_client_knows(client: Caller, model: str) -> None:
    with pytest.raises(Exception, match="Repository Not Found"):
        client(hub_client.api, "model_info", "org/none")
    with pytest.raises(Exception, match="Revision Not Found"):
        client(hub_client.api, "model_info", model, revision="none")
    with pytest.raises(Exception, match="Entry Not Found"):
        client(hub_client.api, "hf_hub_download", model, "none.txt")


def test_cut_connection_is_resumed_by_range(server: HubServer, client: Caller, model: str) -> None:
    server.add(model, {"model.safetensors": b"0123456789" * 50_000})
    server.faults.append(Fault(rf"GET /{model}/resolve/.*model\.safetensors", cut_at=200_000))
    path = client(hub_client.api, "hf_hub_download", model, "model.safetensors")
    assert Path(path).read_bytes() == b"0123456789" * 50_000
    assert server.faults[0].times == 0


def test_faults_last_as_long_as_asked(server: HubServer, client: Caller, model: str) -> None:
    server.faults.append(Fault(rf"/api/models/{model}/refs", status=503, times=2))
    for _ in range(2):
        with pytest.raises(Exception, match="503"):
            client(hub_client.api, "list_repo_refs", model)
    assert client(hub_client.api, "list_repo_refs", model).branches


def test_token_is_asked_for(tmp_path: Path) -> None:
    with HubServer(token="hf_right") as server:
        server.add("org/secret", {"config.json": b"{}"})
        with hub_client.hub_client(server.url, tmp_path, token="hf_right") as client:
            assert client(hub_client.api, "whoami")["name"] == "tester"
            with pytest.raises(Exception, match="401"):
                client(hub_client.api, "model_info", "org/secret", token="hf_wrong")
            with pytest.raises(Exception, match="Repository Not Found"):
                client(hub_client.api, "model_info", "org/secret", token=False)
