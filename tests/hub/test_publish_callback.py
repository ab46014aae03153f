"""Publishing while training: every checkpoint arrives, and no failure of the Hub reaches the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from builders import distill_trainer, flat_weights, tiny_model
from hub_client import Caller
from hub_push import publish
from hub_server import Fault, HubServer
from teacher_folders import cut, save_trainer_checkpoint

from hf_distill.hub.publish_callback import SPOOL, spooled

STEPS = (2, 4, 6)


def train(
    folder: Path, repo_id: str, *, token: str | None = None, live: bool = True, tries: int = 8
) -> dict[str, Any]:
    """Train a small teacher whose older checkpoints are deleted as it goes."""
    from hub_push import shown

    from hf_distill.hub.publish_callback import PublishTeacherCallback
    from hf_distill.teachers.retry import Backoff

    backoff = Backoff(tries=tries, first_seconds=0.01, longest_seconds=0.05)
    callback = PublishTeacherCallback(repo_id, token=token, private=True, backoff=backoff)
    trainer = distill_trainer(
        folder,
        model=tiny_model("classification", seed=5),
        callbacks=[callback] if live else [],
        max_steps=6,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=1,
    )
    said = shown(trainer.train)
    return {
        "error": said.error,
        "text": said.text,
        "weights": flat_weights(trainer.model),
        "failures": callback.failures,
        "left": sorted(path.name for path in (folder / SPOOL).glob("*")),
    }


def revisions(server: HubServer, name: str) -> set[str]:
    return set(server.store.get(name).branches)


@pytest.mark.hub
@pytest.mark.slow
def test_every_checkpoint_arrives_although_training_deletes_the_older_ones(
    server: HubServer, client: Caller, repo_id: str, tmp_path: Path
) -> None:
    quiet = client(train, tmp_path / "quiet", repo_id, live=False)
    done = client(train, tmp_path / "run", repo_id)
    assert (done["error"], done["failures"], done["left"]) == (None, [], [])
    assert [path.name for path in sorted((tmp_path / "run").glob("checkpoint-*"))] == ["checkpoint-6"]
    assert revisions(server, repo_id) == {"main", "step-2", "step-4", "step-6"}
    assert server.store.get(repo_id).private
    weights = {server.store.get(repo_id).resolve(f"step-{step}").files["model.safetensors"] for step in STEPS}
    assert len(weights) == 3
    assert server.store.get(repo_id).resolve("main").files["model.safetensors"] in weights
    assert done["weights"].equal(quiet["weights"]), "publishing changed the training"


@pytest.mark.hub
@pytest.mark.slow
def test_a_hub_that_refuses_costs_no_training_and_what_is_left_is_published_by_the_next_start(
    server: HubServer, client: Caller, repo_id: str, tmp_path: Path
) -> None:
    server.faults.append(Fault(r"POST .*/commit/", status=500, times=1000))
    done = client(train, tmp_path / "run", repo_id, tries=2)
    assert done["error"] is None
    assert len(done["failures"]) == 3
    assert "hf-distill teachers publish" in done["text"]
    assert done["left"] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    server.faults.clear()
    assert client(publish, tmp_path / "run" / SPOOL, repo_id).error is None
    assert revisions(server, repo_id) == {"main", "step-2", "step-4", "step-6"}


@pytest.mark.hub
@pytest.mark.slow
def test_a_wrong_token_is_in_no_log_of_the_training(
    server: HubServer, client: Caller, repo_id: str, tmp_path: Path
) -> None:
    wrong = "hf_" + "WrongButSecretTokenOfTheCallback"
    done = client(train, tmp_path / "run", repo_id, token=wrong)
    assert done["error"] is None
    assert "the Hub answered 401" in done["failures"][0]
    assert wrong not in done["text"] + "".join(done["failures"])


def test_a_half_written_checkpoint_is_not_spooled(tmp_path: Path) -> None:
    folder = save_trainer_checkpoint(tmp_path, 3)
    cut(folder / "model.safetensors", 100)
    with pytest.raises(ValueError, match="cut short"):
        spooled(folder, tmp_path / SPOOL)
    assert not (tmp_path / SPOOL).exists()


def test_what_is_spooled_outlives_its_checkpoint_and_holds_no_optimizer(tmp_path: Path) -> None:
    folder = save_trainer_checkpoint(tmp_path, 3)
    content = (folder / "model.safetensors").read_bytes()
    kept = spooled(folder, tmp_path / SPOOL)
    for path in list(folder.iterdir()):
        path.unlink()
    assert (kept / "model.safetensors").read_bytes() == content
    assert {path.name for path in kept.iterdir()} == {"config.json", "model.safetensors", "trainer_state.json"}
