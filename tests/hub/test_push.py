"""A student on the Hub: chosen openly, complete, and nothing of the run's that does not belong there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import hub_client
import pytest
from hub_client import Caller
from hub_push import push
from hub_server import HubServer
from huggingface_hub import ModelCard
from sample_records import sample_record
from teacher_folders import save_trainer_checkpoint

from hf_distill.hub.push import choose_student
from hf_distill.run_record import RunRecord

hub = pytest.mark.hub


@pytest.fixture
def run_dir(tmp_path: Path, token: str) -> Path:
    """A run of nine students with everything beside them that must not be published."""
    record = sample_record()
    record.recipe["training"]["hub_token"] = token
    record.command += ["--set", f"training.hub_token={token}", f"output_dir={tmp_path}"]
    record.save(tmp_path)
    for number, run in enumerate(record.runs):
        folder = tmp_path / run.folder
        save_trainer_checkpoint(folder, 40)
        save_trainer_checkpoint(folder / "plain", number)
        for file in (folder / "plain" / f"checkpoint-{number}").iterdir():
            file.rename(folder / file.name)
        for name in ("readouts.safetensors", "projectors.safetensors", "tokenizer.json", "student_run.json"):
            (folder / name).write_text("{}")
    return tmp_path


def test_the_best_student_is_chosen_and_the_reason_is_said() -> None:
    record = sample_record()
    choice = choose_student(record)
    best = max(run.final_metrics["accuracy"] for run in record.runs)
    assert choice.run.final_metrics["accuracy"] == best
    assert re.search(r"two_shot, seed \d: accuracy 0.9\d+, the highest of 9 students", choice.reason)


def test_a_metric_where_less_is_better_chooses_the_lowest() -> None:
    record = sample_record()
    record.task.update(metric="loss", greater_is_better=False)
    choice = choose_student(record, curriculum="labels")
    assert choice.run.final_metrics["loss"] == min(r.final_metrics["loss"] for r in record.runs[:3])
    assert "the lowest of 3" in choice.reason


def test_a_student_without_a_finite_metric_is_never_the_best() -> None:
    record = sample_record()
    record.runs[0].final_metrics = {"accuracy": None}
    record.runs[1].final_metrics = {"accuracy": float("nan")}
    assert choose_student(record, curriculum="labels").run.seed == 2


def test_a_student_that_is_not_there_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no student 'three_shot' with seed 1; it has: labels with seed 0"):
        choose_student(sample_record(), curriculum="three_shot", seed=1)


@hub
def test_a_push_holds_the_student_and_nothing_else_and_no_token(
    server: HubServer, client: Caller, repo_id: str, run_dir: Path, token: str
) -> None:
    shown = client(push, run_dir, repo_id, curriculum="two_shot", seed=1, private=True)
    commit = server.store.get(repo_id).resolve("main")
    files = {path: server.store.blobs[digest] for path, digest in commit.files.items()}
    assert files.keys() - {".gitattributes"} == {
        "README.md",
        "config.json",
        "learning_curves.png",
        "model.safetensors",
        "run_record.json",
        "tokenizer.json",
    }
    assert files["model.safetensors"] == (run_dir / "two_shot" / "seed-1" / "model.safetensors").read_bytes()
    assert commit.title == "Student of parity-quickstart: two_shot, seed 1"
    assert server.store.get(repo_id).private
    everything = "".join(content.decode("latin-1") for content in files.values()) + shown.text
    for secret in (token, str(run_dir), "/home/someone"):
        assert secret not in everything, secret
    assert json.loads(files["run_record.json"])["name"] == "parity-quickstart"


@hub
def test_the_card_passes_the_hubs_validation_and_shows_the_curves(
    server: HubServer, client: Caller, repo_id: str, run_dir: Path
) -> None:
    client(push, run_dir, repo_id, license="mit")
    commit = server.store.get(repo_id).resolve("main")
    text = server.store.blobs[commit.files["README.md"]].decode()
    server.requests.clear()
    client(validated, text)
    assert server.requests == ["POST /api/validate-yaml"]
    card = ModelCard(text)
    assert card.data.license == "mit"
    assert card.data.base_model == ["acme/parity-teacher"]
    assert card.data.base_model_relation == "finetune"
    assert card.data.model_name
    assert card.data.eval_results
    assert f"source = {repo_id!r}" in text
    assert "](learning_curves.png)" in text


def validated(text: str) -> None:
    ModelCard(text).validate()


@hub
def test_pushing_again_makes_no_commit_and_another_student_replaces_the_first(
    server: HubServer, client: Caller, repo_id: str, run_dir: Path
) -> None:
    first = client(push, run_dir, repo_id, curriculum="labels", seed=0).result
    (run_dir / "two_shot" / "seed-0" / "tokenizer.json").unlink()
    again = client(push, run_dir, repo_id, curriculum="labels", seed=0).result
    assert again == (first.commit, False)
    client(push, run_dir, repo_id, curriculum="two_shot", seed=0)
    files = server.store.get(repo_id).resolve("main").files
    assert "tokenizer.json" not in files, "the tokenizer of the other student was left"


@hub
def test_the_license_of_the_teacher_is_passed_through(
    server: HubServer, client: Caller, repo_id: str, run_dir: Path
) -> None:
    if "acme/parity-teacher" not in server.store.repositories:
        server.add("acme/parity-teacher", {"README.md": b"---\nlicense: gemma\n---\n"})
    client(push, run_dir, repo_id)
    commit = server.store.get(repo_id).resolve("main")
    assert ModelCard(server.store.blobs[commit.files["README.md"]].decode()).data.license == "gemma"


@hub
def test_a_half_written_student_is_refused_before_the_repository_is_made(
    server: HubServer, client: Caller, repo_id: str, run_dir: Path
) -> None:
    weights = run_dir / "two_shot" / "seed-0" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    refused = client(push, run_dir, repo_id, curriculum="two_shot", seed=0)
    assert re.search("cannot be published: model.safetensors is cut short", refused.error)
    assert repo_id not in server.store.repositories


@hub
def test_offline_mode_says_so(client: Caller, repo_id: str, run_dir: Path) -> None:
    refused = push(run_dir, repo_id)
    assert "offline mode is on" in refused.error
    assert RunRecord.load(run_dir).runs
    assert not client(hub_client.api, "repo_exists", repo_id)
