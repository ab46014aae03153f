"""The card of a published teacher: parses as the Hub parses it and lists every revision with its commit."""

from __future__ import annotations

import json

from huggingface_hub import ModelCard, metadata_load

from hf_distill.hub.teacher_card import TeacherRevision, held_out_metrics, teacher_card

REVISIONS = [
    TeacherRevision("step-100", 100, "a" * 40, {"accuracy": 0.5}),
    TeacherRevision("step-2000", 2000, "b" * 40, {}),
]


def test_metadata_round_trips_and_every_revision_is_listed(tmp_path) -> None:
    card = teacher_card("acme/teacher", REVISIONS, license="mit")
    (tmp_path / "README.md").write_text(str(card), encoding="utf-8")
    metadata = metadata_load(tmp_path / "README.md")
    assert metadata["license"] == "mit"
    assert "training-checkpoints" in metadata["tags"]
    text = str(card)
    assert f"| step-100 | 100 | {'a' * 40} | 0.5000 |" in text
    assert f"| step-2000 | 2,000 | {'b' * 40} | – |" in text
    assert 'source: "acme/teacher@step-*"' in text
    assert 'revision="step-100"' in text


def test_a_teacher_without_revisions_or_metrics_has_a_card_too() -> None:
    text = str(teacher_card("acme/teacher", []))
    assert "{{" not in text and "None" not in text
    assert ModelCard(text).data.license is None


def test_metrics_are_those_of_the_checkpoints_own_step(tmp_path) -> None:
    log = [
        {"step": 5, "eval_loss": 1.0, "eval_runtime": 3.0},
        {"step": 10, "loss": 0.4},
        {"step": 10, "eval_loss": 0.5, "eval_f1": 0.9, "eval_runtime": 3.0},
    ]
    state = tmp_path / "trainer_state.json"
    state.write_text(json.dumps({"global_step": 10, "log_history": log}))
    assert held_out_metrics(tmp_path) == {"loss": 0.5, "f1": 0.9}
    state.write_text(json.dumps({"global_step": 11, "log_history": log}))
    assert held_out_metrics(tmp_path) == {}
    assert held_out_metrics(tmp_path / "none") == {}
