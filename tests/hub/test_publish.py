"""A teacher's checkpoints become revisions: whole, in order, once, and nothing else is published."""

from __future__ import annotations

import re
from pathlib import Path

import hub_client
import pytest
from hub_client import Caller
from hub_push import publish
from hub_server import HubServer
from teacher_folders import cut, save_teacher, save_trainer_checkpoint

from hf_distill.hub.publish import STAGING, snapshots_in, teacher_folder

pytestmark = pytest.mark.hub

STEPS = (20, 100, 9)


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    for step in STEPS:
        save_trainer_checkpoint(tmp_path / "run", step)
    return tmp_path / "run"


def files_of(server: HubServer, name: str, revision: str) -> dict[str, bytes]:
    commit = server.store.get(name).resolve(revision)
    return {path: server.store.blobs[digest] for path, digest in commit.files.items() if path != ".gitattributes"}


@pytest.mark.parametrize("kind", ["branch", "tag"])
def test_every_checkpoint_is_a_revision_with_its_own_weights_and_nothing_but_the_model(
    server: HubServer, client: Caller, repo_id: str, teacher: Path, kind: str
) -> None:
    published = client(publish, teacher, repo_id, kind=kind).result
    assert [revision.name for revision in published] == ["step-9", "step-20", "step-100", "main"]
    repository = server.store.get(repo_id)
    assert set(repository.tags if kind == "tag" else repository.branches) - {"main"} == {
        f"step-{step}" for step in STEPS
    }
    for step in STEPS:
        kept = files_of(server, repo_id, f"step-{step}")
        assert kept.keys() == {"config.json", "model.safetensors"}
        assert kept["model.safetensors"] == (teacher / f"checkpoint-{step}" / "model.safetensors").read_bytes()
    main = files_of(server, repo_id, "main")
    assert main.keys() == {"config.json", "model.safetensors", "README.md"}
    assert main["model.safetensors"] == (teacher / "checkpoint-100" / "model.safetensors").read_bytes()
    assert all(revision.commit in main["README.md"].decode() for revision in published[:3])


def test_publishing_again_changes_nothing_and_uploads_nothing(
    server: HubServer, client: Caller, repo_id: str, teacher: Path
) -> None:
    client(publish, teacher, repo_id)
    commits = dict(server.store.get(repo_id).commits)
    server.requests.clear()
    again = client(publish, teacher, repo_id).result
    assert {revision.outcome for revision in again} == {"there already"}
    assert server.store.get(repo_id).commits == commits
    assert not [request for request in server.requests if "/commit/" in request or request.startswith("PUT")]
    assert STAGING not in server.store.get(repo_id).branches


def test_new_checkpoints_of_a_longer_training_are_added(
    server: HubServer, client: Caller, repo_id: str, teacher: Path
) -> None:
    before = client(publish, teacher, repo_id).result
    save_trainer_checkpoint(teacher, 200)
    after = client(publish, teacher, repo_id).result
    assert [revision.outcome for revision in after] == ["there already"] * 3 + ["pushed"] * 2
    assert after[:3] == [revision._replace(outcome="there already") for revision in before[:3]]
    assert "step-200" in files_of(server, repo_id, "main")["README.md"].decode()


def test_a_published_revision_is_never_overwritten_by_another_training(
    server: HubServer, client: Caller, repo_id: str, teacher: Path, tmp_path: Path
) -> None:
    client(publish, teacher, repo_id)
    before = dict(server.store.get(repo_id).branches)
    save_trainer_checkpoint(tmp_path / "other", 20, seed=77)
    refused = client(publish, tmp_path / "other", repo_id)
    assert re.search("has a revision 'step-20' with another content", refused.error)
    assert server.store.get(repo_id).branches == before


def test_the_finished_model_goes_to_main_where_it_differs_from_the_last_checkpoint(
    server: HubServer, client: Caller, repo_id: str, teacher: Path
) -> None:
    save_teacher(teacher, seed=1234)
    client(publish, teacher, repo_id)
    kept = files_of(server, repo_id, "main")["model.safetensors"]
    assert kept == (teacher / "model.safetensors").read_bytes()
    assert kept != files_of(server, repo_id, "step-100")["model.safetensors"]


def test_every_other_checkpoint_keeps_the_last(server: HubServer, client: Caller, repo_id: str, teacher: Path) -> None:
    save_trainer_checkpoint(teacher, 200)
    published = client(publish, teacher, repo_id, every=2).result
    assert [revision.name for revision in published] == ["step-9", "step-100", "step-200", "main"]


@pytest.mark.parametrize("damage", ["weights", "unfinished"])
def test_a_half_written_checkpoint_is_refused_by_name_before_anything_is_pushed(
    server: HubServer, client: Caller, repo_id: str, teacher: Path, damage: str
) -> None:
    if damage == "weights":
        cut(teacher / "checkpoint-20" / "model.safetensors", 200)
    else:
        (teacher / "checkpoint-20" / "trainer_state.json").unlink()
    refused = client(publish, teacher, repo_id)
    assert re.search("checkpoint-20 is not a whole checkpoint.*Nothing was pushed", refused.error, re.DOTALL)
    assert repo_id not in server.store.repositories


def test_private_is_asked_for_and_a_public_repository_is_refused(
    server: HubServer, client: Caller, repo_id: str, teacher: Path
) -> None:
    client(publish, teacher, repo_id, private=True)
    assert server.store.get(repo_id).private
    client(hub_client.api, "create_repo", f"{repo_id}-public")
    refused = client(publish, teacher, f"{repo_id}-public", private=True)
    assert re.search("exists and is public", refused.error)
    assert list(server.store.get(f"{repo_id}-public").branches) == ["main"]


def test_a_run_without_checkpoints_says_how_to_keep_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="save_total_limit: null"):
        teacher_folder(tmp_path)


def test_a_recipes_folder_stands_for_its_teacher(tmp_path: Path) -> None:
    save_trainer_checkpoint(tmp_path / "teacher", 3)
    assert teacher_folder(tmp_path) == tmp_path / "teacher"
    assert [snapshot.name for snapshot in snapshots_in(tmp_path / "teacher")] == ["step-3"]
