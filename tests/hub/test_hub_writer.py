"""Writing to a repository: one commit or none, judged by hashes; errors of ours, without what the request held."""

from __future__ import annotations

import pytest
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoFile

from hf_distill.hub.hub_writer import HubWriter, Written, hub_errors, is_same
from hf_distill.teachers.retry import HubUnavailable

pytestmark = pytest.mark.hub

# git hash-object of "hello\n", and sha256sum of the same
GIT_SHA1 = "ce013625030ba8dba906f756967f9e9ca394464a"
SHA256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"


def write_twice(repo_id: str) -> tuple[Written, Written, Written]:
    writer = HubWriter(repo_id)
    writer.create()
    first = writer.put({"a.txt": b"one", "model.safetensors": b"weights"}, message="first")
    again = writer.put({"a.txt": b"one", "model.safetensors": b"weights"}, message="again")
    other = writer.put({"b.txt": b"two"}, message="other", replaces=lambda path: path.endswith(".safetensors"))
    return first, again, other


def test_the_same_content_makes_no_second_commit_and_only_what_is_named_is_deleted(server, client, repo_id) -> None:
    first, again, other = client(write_twice, repo_id)
    assert first.new and other.new
    assert again == (first.commit, False)
    assert set(server.store.get(repo_id).commits[other.commit].files) == {".gitattributes", "a.txt", "b.txt"}


def put_on_missing_branch(repo_id: str) -> None:
    writer = HubWriter(repo_id)
    writer.create()
    writer.put({"a.txt": b"one"}, branch="none", message="x")


def test_a_missing_branch_is_named(client, repo_id) -> None:
    with pytest.raises(Exception, match="has no branch 'none'"):
        client(put_on_missing_branch, repo_id)


def delete_what_is_not_there(repo_id: str) -> bool:
    writer = HubWriter(repo_id)
    writer.create()
    writer.delete_branch("none")
    return "none" in writer.refs()


def test_deleting_a_branch_that_is_gone_already_is_no_error(client, repo_id) -> None:
    assert client(delete_what_is_not_there, repo_id) is False


def shared_license(first: str, second: str) -> list[str | None]:
    writer = HubWriter(first)
    return [writer.license_of(models) for models in ([first], [first, second], [first, "org/none"], [])]


def test_a_license_is_passed_on_only_where_all_base_models_share_it(server, client, repo_id) -> None:
    server.add(repo_id, {"README.md": b"---\nlicense: mit\n---\n"})
    server.add(f"{repo_id}-b", {"README.md": b"---\nlicense: gemma\n---\n"})
    assert client(shared_license, repo_id, f"{repo_id}-b") == ["mit", None, None, None]


@pytest.mark.parametrize("as_file", [False, True])
def test_content_is_compared_by_the_hash_that_the_hub_keeps(tmp_path, as_file) -> None:
    (tmp_path / "a").write_bytes(b"hello\n")
    content = tmp_path / "a" if as_file else b"hello\n"
    small = {"path": "a", "size": 6, "oid": GIT_SHA1}
    large = {**small, "oid": "0" * 40, "lfs": {"oid": SHA256, "size": 6, "pointerSize": 120}}
    assert is_same(content, RepoFile(**small))
    assert is_same(content, RepoFile(**large))
    assert not is_same(content, RepoFile(**{**small, "oid": "1" * 40}))
    assert not is_same(content, RepoFile(**{**small, "size": 7}))
    assert not is_same(content, None)


@pytest.mark.parametrize(
    ("raised", "expected", "match"),
    [
        (ConnectionError("https://host/?token=secret"), HubUnavailable, "the connection broke off"),
        (TimeoutError("https://host/?token=secret"), HubUnavailable, "the connection broke off"),
        (OfflineModeIsEnabled("x"), ValueError, "unset it"),
    ],
)
def test_errors_say_what_to_do_and_nothing_of_the_request(raised, expected, match) -> None:
    with pytest.raises(expected, match=match) as caught, hub_errors("org/name"):
        raise raised
    assert "secret" not in str(caught.value)


def test_an_error_of_our_own_code_is_not_taken_for_the_networks() -> None:
    with pytest.raises(RuntimeError, match="a bug"), hub_errors("org/name"):
        raise RuntimeError("a bug")
