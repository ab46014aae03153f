"""A student on the Hub: chosen openly, complete, and nothing of the run's that does not belong there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import hub_client
import pytest
from finetuned_records import finetuned_record
from hub_client import Caller
from hub_push import push, push_finetuned
from hub_server import Fault, HubServer
from huggingface_hub import ModelCard
from sample_records import sample_record
from teacher_folders import save_trainer_checkpoint

from hf_distill.hub.push import choose_finetuned, choose_student
from hf_distill.hub.pushed import PUSHED_FILE
from hf_distill.run_record import RunRecord
from hf_distill.teachers.weight_files import content_hash

hub = pytest.mark.hub


@pytest.fixture
def run_dir(tmp_path: Path, token: str) -> Path:
    """A run of nine students with everything beside them that must not be published."""
    return saved_run(tmp_path, sample_record(), token)


@pytest.fixture
def finetuned_dir(tmp_path: Path, token: str) -> Path:
    """The same with three of the students fine-tuned, beside their baselines."""
    return saved_run(tmp_path, finetuned_record(), token)


def saved_run(folder: Path, record: RunRecord, token: str) -> Path:
    """Save a record whose texts hold the token, and a model with all that a Trainer leaves for each of its runs."""
    record.recipe["training"]["hub_token"] = token
    record.command += ["--set", f"training.hub_token={token}", f"output_dir={folder}"]
    finetuned = [run for block in record.downstream for run in block.runs]
    for number, run in enumerate([*record.runs, *finetuned]):
        place = folder / run.folder
        save_trainer_checkpoint(place, 40)
        save_trainer_checkpoint(place / "plain", number)
        for file in (place / "plain" / f"checkpoint-{number}").iterdir():
            file.rename(place / file.name)
        for name in ("readouts.safetensors", "projectors.safetensors", "tokenizer.json", "student_run.json"):
            (place / name).write_text("{}")
    students = {(run.curriculum, run.seed): folder / run.folder for run in record.runs}
    for run in finetuned:
        if (run.curriculum, run.seed) in students:
            assert run.began_with is not None
            run.began_with.commit = content_hash(students[run.curriculum, run.seed])
    record.save(folder)
    return folder


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


def test_the_best_fine_tuned_student_is_chosen_and_no_baseline() -> None:
    record = finetuned_record()
    choice = choose_finetuned(record, "cola")
    assert (choice.run.curriculum, choice.run.seed) == ("two_shot", 2), "the teacher's is higher"
    assert choice.reason == (
        "cola, fine-tuned from two_shot, seed 2: matthews_correlation 0.3200, the highest of 3 students; from new "
        "weights 0.1000, the median over seeds"
    )
    without = finetuned_record(labels=("two_shot",))
    assert choose_finetuned(without, "cola", seed=0).reason.endswith("matthews_correlation 0.3000")
    assert choose_finetuned(record, "cola", curriculum="teacher").run.curriculum == "teacher"
    assert choose_finetuned(record, "cola", curriculum="from_scratch", seed=0).run.seed == 0


@pytest.mark.parametrize(
    ("block", "asked", "match"),
    [
        ("mrpc", {}, "has no downstream task 'mrpc'; it has: cola"),
        ("cola", {"curriculum": "labels"}, "no student 'labels'; it has: two_shot with seed 0, .*teacher with seed 2"),
        ("cola", {"seed": 7}, "no student seed 7; it has: two_shot with seed 0"),
    ],
)
def test_a_fine_tuned_model_that_is_not_there_is_refused_with_those_there_are(block, asked, match) -> None:
    with pytest.raises(ValueError, match=match):
        choose_finetuned(finetuned_record(), block, **asked)
    with pytest.raises(ValueError, match="has no downstream task 'cola'; it has: none"):
        choose_finetuned(sample_record(), "cola")


@hub
def test_a_fine_tuned_model_goes_with_its_card_record_and_curves_and_goes_once(
    server: HubServer, client: Caller, repo_id: str, finetuned_dir: Path, token: str
) -> None:
    shown = client(push_finetuned, finetuned_dir, repo_id, "cola", private=True, license="mit", language="en")
    assert shown.error is None
    commit = server.store.get(repo_id).resolve("main")
    assert server.store.get(repo_id).private
    assert commit.title == "Fine-tuned in parity-quickstart: cola, from two_shot, seed 2"
    files = {path: server.store.blobs[digest] for path, digest in commit.files.items()}
    model = {"config.json", "model.safetensors", "tokenizer.json"}
    assert files.keys() - {".gitattributes"} == {*model, "README.md", "learning_curves.png", "run_record.json"}
    folder = finetuned_dir / "finetune/cola/two_shot/seed-2"
    assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert files["learning_curves.png"].startswith(b"\x89PNG")
    everything = "".join(content.decode("latin-1") for content in files.values()) + shown.text
    for secret in (token, str(finetuned_dir), "/home/someone"):
        assert secret not in everything, secret
    text = files["README.md"].decode()
    server.requests.clear()
    client(validated, text)
    assert server.requests == ["POST /api/validate-yaml"]
    data = ModelCard(text).data
    assert (data.license, data.language, data.base_model) == ("mit", "en", ["acme/parity-teacher"])
    assert f"source = {repo_id!r}" in text and "](learning_curves.png)" in text
    again = client(push_finetuned, finetuned_dir, repo_id, "cola", private=True, license="mit", language="en").result
    assert again == (commit.oid, False)


@hub
def test_a_model_fine_tuned_from_a_pushed_student_names_it_and_has_its_license(
    server: HubServer, client: Caller, repo_id: str, finetuned_dir: Path
) -> None:
    student = client(push, finetuned_dir, repo_id, curriculum="two_shot", seed=2, license="mit").result
    (finetuned_dir / "finetuned_cola.png").write_bytes(b"as the report drew it")
    pushed = client(push_finetuned, finetuned_dir, f"{repo_id}-cola", "cola", curriculum="two_shot", seed=2)
    assert pushed.error is None
    files = server.store.get(f"{repo_id}-cola").resolve("main").files
    assert server.store.blobs[files["learning_curves.png"]] == b"as the report drew it"
    card = ModelCard(server.store.blobs[files["README.md"]].decode())
    assert (card.data.base_model, card.data.base_model_relation) == ([repo_id], "finetune")
    assert card.data.license == "mit"
    assert student.commit in card.text
    other = client(push_finetuned, finetuned_dir, f"{repo_id}-other", "cola", curriculum="two_shot", seed=0)
    assert other.error is None
    files = server.store.get(f"{repo_id}-other").resolve("main").files
    assert ModelCard(server.store.blobs[files["README.md"]].decode()).data.base_model == ["acme/parity-teacher"]


@hub
def test_a_fine_tuned_push_that_was_cut_off_leaves_nothing_and_goes_on(
    server: HubServer, client: Caller, repo_id: str, finetuned_dir: Path
) -> None:
    server.faults.append(Fault(r"POST .*/commit/", status=500))
    cut = client(push_finetuned, finetuned_dir, repo_id, "cola", tries=1)
    assert "HubUnavailable" in cut.error
    assert server.store.get(repo_id).resolve("main").files.keys() <= {".gitattributes"}
    assert client(push_finetuned, finetuned_dir, repo_id, "cola", tries=1).error is None
    assert "model.safetensors" in server.store.get(repo_id).resolve("main").files
    assert len(server.store.get(repo_id).commits) == 2


@hub
def test_a_push_goes_through_where_it_cannot_be_noted(
    server: HubServer, client: Caller, repo_id: str, run_dir: Path
) -> None:
    (run_dir / PUSHED_FILE).mkdir()
    shown = client(push, run_dir, repo_id, curriculum="labels", seed=0)
    assert shown.error is None
    assert "It is not noted" in shown.text
    assert "README.md" in server.store.get(repo_id).resolve("main").files


@hub
def test_a_fine_tuned_model_that_is_not_whole_is_refused_before_the_repository_is_made(
    server: HubServer, client: Caller, repo_id: str, finetuned_dir: Path
) -> None:
    (finetuned_dir / "finetune/cola/two_shot/seed-2/model.safetensors").unlink()
    refused = client(push_finetuned, finetuned_dir, repo_id, "cola")
    assert "cannot be published" in refused.error
    assert repo_id not in server.store.repositories
