"""The whole card: parses as the Hub parses it, says what the record says, and keeps secrets and paths to itself."""

from __future__ import annotations

import re

import pytest
from huggingface_hub import ModelCard, metadata_load
from sample_records import COMMITS, assert_filled, labels_only_record, sample_record

from hf_distill.hub.card import save_student_card, student_card, template_path

TOKEN = "hf_" + "Qq" * 17


def test_metadata_round_trips_through_the_hubs_own_parser(tmp_path):
    record = sample_record()
    path = save_student_card(record, tmp_path / "student", curriculum="two_shot", seed=1, license="apache-2.0")
    assert path == tmp_path / "student" / "README.md"
    metadata = metadata_load(path)
    assert metadata["base_model"] == ["acme/parity-teacher"]
    assert metadata["base_model_relation"] == "finetune"
    assert metadata["tags"] == [
        "hf_distill",
        "knowledge-distillation",
        "progressive-distillation",
        "generated_from_trainer",
    ]
    assert metadata["license"] == "apache-2.0"
    loaded = ModelCard.load(path)
    run = next(run for run in record.runs if (run.curriculum, run.seed) == ("two_shot", 1))
    assert {result.metric_type: result.metric_value for result in loaded.data.eval_results} == run.final_metrics


def test_card_names_teacher_revisions_curriculum_command_and_paper():
    text = str(student_card(sample_record(), curriculum="two_shot", seed=0, picture="learning_curves.png"))
    for expected in (
        *COMMITS.values(),
        "## Curriculum",
        "725",
        "hf-distill run quickstart.yaml",
        "2410.05464",
        "](learning_curves.png)",
        "31.2 times the parameters",
    ):
        assert expected in text, expected


@pytest.mark.parametrize(("curriculum", "record"), [("labels", labels_only_record()), ("one_shot", sample_record())])
def test_card_of_any_student_has_every_section_filled(curriculum, record):
    card = student_card(record, curriculum=curriculum, seed=0)
    assert_filled(card, method="Curriculum")


def test_card_holds_no_token_and_no_path_of_this_machine():
    record = sample_record(
        command=["/home/someone/bin/hf-distill", "run", "/home/someone/r.yaml", "--set", f"training.hub_token={TOKEN}"]
    )
    record.recipe.update(output_dir="/scratch/someone/runs", task={"name": "parity", "files": ["/scratch/data/a.txt"]})
    record.recipe["training"]["hub_token"] = "plain-looking-secret"
    record.teacher["source"] = "/scratch/someone/teacher"
    record.task["description"]["source"] = "files /scratch/data/a.txt"
    for revision in record.teacher["revisions"]:
        revision.update(source="/scratch/someone/teacher", commit="sha256:" + "c" * 64)
    text = str(student_card(record, curriculum="two_shot", seed=0))
    for secret in (TOKEN, "plain-looking-secret", "/scratch", "/home", "someone"):
        assert secret not in text, secret
    assert "hf-distill run r.yaml" in text
    assert "sha256:" + "c" * 64 in text
    assert "base_model" not in text


def test_unknown_student_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match="two_shot with seed 2"):
        student_card(sample_record(), curriculum="two_shot", seed=7)


def test_values_of_the_record_cannot_end_the_metadata_or_start_html():
    record = sample_record(name="evil\n---\n<script>")
    record.teacher["source"] = "<img src=x>"
    card = student_card(record, curriculum="two_shot", seed=0)
    assert card.data.model_name == "evil\n---\n<script>-two_shot-seed-0"
    assert not re.search(r"(?<!\\)<(script|img)", card.text)


def test_card_is_the_same_every_time_and_leaves_the_record_alone():
    record = sample_record()
    before = record.to_dict()
    texts = {str(student_card(record, curriculum="two_shot", seed=0)) for _ in range(2)}
    assert len(texts) == 1
    assert record.to_dict() == before


def test_template_is_found_in_a_checkout():
    assert template_path().is_file()
