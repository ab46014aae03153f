"""The Trainer's own pushes: every hub_strategy publishes the student with our card, and no token and no teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import distill_trainer, examples, save_teacher_run, tiny_model, word_tokenizer
from hub_client import Caller
from hub_server import HubServer
from transformers import default_data_collator

pytestmark = [pytest.mark.hub, pytest.mark.slow]

STUDENT = {
    "config.json",
    "model.safetensors",
    "README.md",
    "run_record.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def train_and_push(folder: Path, repo_id: str, strategy: str, **options) -> None:
    trainer = distill_trainer(
        folder / "student",
        teacher=str(save_teacher_run(folder / "teacher")),
        curriculum="n_shot",
        eval_dataset=examples("classification", count=6, seed=3),
        data_collator=default_data_collator,
        processing_class=word_tokenizer(*(f"w{number}" for number in range(39))),
        save_strategy="steps",
        save_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        max_steps=6,
        push_to_hub=True,
        hub_model_id=repo_id,
        hub_strategy=strategy,
        hub_always_push=True,
        **options,
    )
    trainer.train()
    trainer.push_to_hub()


@pytest.mark.parametrize("strategy", ["end", "every_save", "checkpoint", "all_checkpoints"])
def test_student_is_published_with_card_and_record_and_without_token_or_teacher(
    server: HubServer, client: Caller, repo_id: str, tmp_path: Path, token: str, strategy: str
) -> None:
    client(train_and_push, tmp_path, repo_id, strategy, hub_token=token, hub_private_repo=True)
    repository = server.store.get(repo_id)
    commits = repository.history("main")
    files = commits[0].files
    assert set(files) >= STUDENT
    weights = server.store.blobs[files["model.safetensors"]]
    assert weights == (tmp_path / "student" / "model.safetensors").read_bytes()
    card = server.store.blobs[files["README.md"]].decode()
    assert "## Who taught whom" in card and "checkpoint-30" in card
    assert repository.private
    folders = {path.split("/")[0] for path in files if "/" in path}
    expected = {"checkpoint": {"last-checkpoint"}, "all_checkpoints": {f"checkpoint-{n}" for n in (2, 4, 6)}}
    assert folders == expected.get(strategy, set())
    if strategy != "end":
        pushed_while_training = [commit for commit in commits if "Training in progress" in commit.title]
        assert pushed_while_training
        assert all("## Who taught whom" in _card(server, commit) for commit in pushed_while_training)
    for commit in commits:
        assert not [path for path in commit.files if "teacher" in path or path.startswith("readout")]
    leaked = [content for content in server.store.blobs.values() if token.encode() in content]
    assert not leaked


def _card(server: HubServer, commit) -> str:
    return server.store.blobs[commit.files["README.md"]].decode()


def test_the_branch_of_hub_revision_is_made(server: HubServer, client: Caller, repo_id: str, tmp_path: Path) -> None:
    client(train_and_push, tmp_path, repo_id, "end", hub_revision="distilled")
    repository = server.store.get(repo_id)
    assert "model.safetensors" in repository.resolve("distilled").files
    assert "model.safetensors" not in repository.resolve("main").files


def test_a_card_before_any_training_is_transformers_own(tmp_path: Path) -> None:
    trainer = distill_trainer(tmp_path, teacher=tiny_model("classification", seed=2))
    trainer.create_model_card(model_name="untrained")
    assert "Who taught whom" not in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_an_unknown_argument_of_the_card_is_refused(tmp_path: Path) -> None:
    trainer = distill_trainer(tmp_path, teacher=tiny_model("classification", seed=2))
    with pytest.raises(TypeError, match="does not take"):
        trainer.create_model_card(licence="mit")
