"""A branch's commits as revisions, with the real client against a Hub on loopback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import hub_client
import pytest
from hub_client import Caller
from hub_server import HubServer
from teacher_folders import save_pickled_teacher

from hf_distill.teachers.hub_history import is_history, step_of_title
from hf_distill.teachers.weight_files import content_hash

pytestmark = pytest.mark.hub


@pytest.fixture
def trained(server: HubServer, add: Callable[..., str], saved: list[Path]) -> str:
    """What `hub_strategy: every_save` leaves: a commit a save, a card between them, the final model at the end."""
    name = add({"main": saved[0]}, title="Training in progress, step 500")
    config = (saved[0] / "config.json").read_bytes()
    weights = (saved[0] / "model.safetensors").read_bytes()
    server.add(name, {"config.json": config, "model.safetensors": weights, "README.md": b"card"}, title="Update card")
    add({"main": saved[1]}, title="Training in progress, step 1000")
    server.add(name, {"README.md": b"all gone"}, title="Delete weights")
    add({"main": saved[2]}, title="End of training")
    return name


def notes(spec: str) -> list[str]:
    from hf_distill.teachers.revisions import resolve

    return resolve(spec).notes


def test_commits_that_bring_weights_are_revisions_and_the_others_are_counted(
    client: Caller, trained: str, saved: list[Path]
) -> None:
    found = client(hub_client.resolve, f"{trained}@main~*")
    assert [(one.name, one.step) for one in found] == [("step500", 500), ("step1000", 1000), ("main", None)]
    hashes = [content_hash(client(hub_client.folder, one)) for one in found]
    assert hashes == [content_hash(folder) for folder in saved]
    assert all(one.revision == one.commit for one in found)
    [note] = client(notes, f"{trained}@main~*")
    assert note.endswith("3 commits brought a model; left out: 2 without a model, 1 that leave it unchanged")


def test_history_can_be_selected_from(client: Caller, trained: str) -> None:
    found = client(hub_client.resolve, {"revisions": f"{trained}@main~*", "first": "step1000"})
    assert [one.name for one in found] == ["step1000", "main"]


def test_history_is_known_offline_and_what_is_not_cached_gets_its_command(
    client: Caller, offline: Caller, trained: str
) -> None:
    found = client(hub_client.resolve, f"{trained}@main~*")
    for one in found[:2]:
        client(hub_client.folder, one)
    with pytest.raises(ValueError, match=f"hf download {trained} --revision {found[2].commit}"):
        offline(hub_client.resolve, f"{trained}@main~*")
    client(hub_client.folder, found[2])
    again = offline(hub_client.resolve, f"{trained}@main~*")
    assert [(one.name, one.commit) for one in again] == [(one.name, one.commit) for one in found]
    with pytest.raises(ValueError, match=f"While online, run: hf-distill teachers list '{trained}@kd~\\*'"):
        offline(hub_client.resolve, f"{trained}@kd~*")


def test_step_trained_twice_keeps_both_apart(client: Caller, add: Callable[..., str], saved: list[Path]) -> None:
    name = ""
    for folder in saved[:2]:
        name = add({"main": folder}, title="Training in progress, step 500")
    found = client(hub_client.resolve, f"{name}@main~*")
    assert [one.name for one in found] == [f"step500-{one.commit[:8]}" for one in found]
    assert [one.step for one in found] == [500, 500]


def test_branch_without_models_or_without_itself_is_told(
    client: Caller, server: HubServer, add: Callable[..., str], tmp_path: Path
) -> None:
    name = add({"main": save_pickled_teacher(tmp_path / "old")})
    with pytest.raises(ValueError, match=r"no commit of main of .* holds a whole model \(2 commits\)"):
        client(hub_client.resolve, f"{name}@main~*")
    assert len(client(hub_client.resolve, f"{name}@main~*", allow_pickled_weights=True)) == 1
    with pytest.raises(ValueError, match=r"has no branch 'kd'\. It has: main"):
        client(hub_client.resolve, f"{name}@kd~*")
    with pytest.raises(ValueError, match="give one branch before"):
        client(hub_client.resolve, f"{name}@m*~*")
    with pytest.raises(ValueError, match="stands alone"):
        client(hub_client.resolve, f"{name}@main~*,step1")


@pytest.mark.parametrize(
    ("title", "step"),
    [
        ("Training in progress, step 500", 500),
        ("Training in progress, step 1000, checkpoint", 1000),
        ("checkpoint of Step-20", 20),
        ("End of training", None),
        ("Upload 3 files", None),
        ("footstep 7", None),
    ],
)
def test_step_is_read_from_titles_that_name_one(title: str, step: int | None) -> None:
    assert step_of_title(title) == step


def test_only_a_tilde_makes_a_history() -> None:
    assert is_history("main~*")
    assert not any(map(is_history, ("main*", "~*", "main~1", "step*")))
