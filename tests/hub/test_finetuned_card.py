"""A fine-tuned model's card: what the Hub files it under, every section filled, secrets and paths kept here."""

from __future__ import annotations

import pytest
from finetuned_records import finetuned_record, undistilled_record
from huggingface_hub import ModelCard, metadata_load
from sample_records import assert_filled
from teacher_folders import save_teacher

from hf_distill.hub.card import template_path
from hf_distill.hub.finetuned_card import TEMPLATE, finetuned_card, languages_of, save_finetuned_cards
from hf_distill.hub.lineage import lineage_of
from hf_distill.hub.pushed import Pushed, note_pushed
from hf_distill.teachers.weight_files import content_hash

TOKEN = "hf_" + "Qq" * 17


def card_of(record, curriculum="two_shot", **options):
    return finetuned_card(record, "cola", curriculum=curriculum, seed=1, **options)


def test_metadata_round_trips_through_the_hubs_own_parser(tmp_path):
    record = finetuned_record()
    written = save_finetuned_cards(record, tmp_path, "cola")
    assert [path.relative_to(tmp_path).as_posix() for path in written] == [
        f"finetune/cola/{label}/seed-{seed}/README.md"
        for label in ("two_shot", "from_scratch", "teacher")
        for seed in range(3)
    ]
    metadata = metadata_load(tmp_path / "finetune/cola/two_shot/seed-1/README.md")
    assert metadata["base_model"] == ["acme/parity-teacher"]
    assert metadata["base_model_relation"] == "finetune"
    assert metadata["datasets"] == ["nyu-mll/glue"]
    assert metadata["library_name"] == "transformers"
    assert metadata["pipeline_tag"] == "text-classification"
    assert metadata["metrics"] == ["matthews_correlation"]
    assert metadata["tags"] == [
        "hf_distill",
        "knowledge-distillation",
        "progressive-distillation",
        "generated_from_trainer",
    ]
    loaded = ModelCard.load(tmp_path / "finetune/cola/two_shot/seed-1/README.md").data
    assert loaded.model_name == "parity-quickstart-cola-two_shot-seed-1"
    run = next(run for run in record.downstream[0].runs if (run.curriculum, run.seed) == ("two_shot", 1))
    assert {result.metric_type: result.metric_value for result in loaded.eval_results} == run.final_metrics
    assert {result.dataset_type for result in loaded.eval_results} == {"nyu-mll/glue"}
    assert {result.metric_name for result in loaded.eval_results} == {
        "held-out matthews correlation, seed 1", "held-out loss, seed 1",
    }  # fmt: skip


def test_the_base_model_is_the_student_once_that_is_pushed(tmp_path):
    record = finetuned_record(labels=("two_shot",))
    student = save_teacher(tmp_path / "students/two_shot/seed-1")
    record.downstream[0].runs[1].began_with.commit = content_hash(student)
    note_pushed(tmp_path, student, Pushed("acme/student", "f" * 40))
    for path, base in zip(
        save_finetuned_cards(record, tmp_path, "cola"),
        (["acme/parity-teacher"], ["acme/student"], ["acme/parity-teacher"]),
        strict=True,
    ):
        assert metadata_load(path)["base_model"] == base
    assert "f" * 40 in (tmp_path / "finetune/cola/two_shot/seed-1/README.md").read_text()


@pytest.mark.parametrize(
    ("record", "curriculum"),
    [
        (finetuned_record(), "two_shot"),
        (finetuned_record(), "from_scratch"),
        (finetuned_record(), "teacher"),
        (undistilled_record(), "student"),
    ],
)
def test_card_of_any_beginning_has_every_section_filled(record, curriculum):
    card = card_of(record, curriculum)
    assert_filled(card, method="Fine-tuning")
    assert "hf-distill run quickstart.yaml" in card.text


def test_new_weights_have_no_base_model_and_no_method():
    data = card_of(finetuned_record(), "from_scratch").data.to_dict()
    assert not {"base_model", "base_model_relation"} & set(data)
    assert data["tags"] == ["hf_distill", "generated_from_trainer"]
    assert card_of(undistilled_record(), "student").data.base_model == ["acme/student"]


def test_data_sets_of_the_distillation_follow_those_of_the_fine_tuning():
    record = finetuned_record()
    record.task["description"]["datasets"] = ["acme/text@" + "a" * 40]
    assert card_of(record).data.datasets == ["nyu-mll/glue", "acme/text"]
    assert card_of(record, "from_scratch").data.datasets == ["nyu-mll/glue"]


def test_languages_are_given_or_named_by_the_task_and_never_invented():
    record = finetuned_record()
    assert "language" not in card_of(record).data.to_dict()
    assert card_of(record, language="en").data.language == "en"
    record.recipe["finetune"] = [
        {"name": "cola", "task": {"name": "translation", "source_lang": "en", "target_lang": "de"}}
    ]
    assert languages_of(lineage_of(record, "cola", curriculum="two_shot", seed=1)) == ["en", "de"]
    assert card_of(record).data.language == ["en", "de"]
    record.recipe["finetune"][0]["task"] = {"name": "token_classification", "language": "some column"}
    assert "language" not in card_of(record).data.to_dict()


def test_license_is_given_or_the_students():
    record = finetuned_record()
    assert "license" not in card_of(record).data.to_dict()
    record.student["license"] = "mit"
    assert card_of(record).data.license == "mit"
    assert card_of(record, license="apache-2.0").data.license == "apache-2.0"
    assert "license" not in card_of(record, "teacher").data.to_dict()


def test_card_holds_no_token_and_no_path_of_this_machine():
    record = finetuned_record()
    record.command = ["/home/someone/bin/hf-distill", "run", "/home/someone/r.yaml", "--set", f"a.hub_token={TOKEN}"]
    record.recipe["output_dir"] = "/scratch/someone/runs"
    record.recipe["finetune"] = [
        {
            "name": "cola",
            "task": {"name": "glue", "vocab": "/scratch/v.txt"},
            "training": {"hub_token": "plain-secret"},
        }
    ]
    record.downstream[0].task["description"]["source"] = "tables of /scratch/someone/glue"
    for run in record.downstream[0].runs:
        if run.curriculum == "teacher":
            run.began_with.source, run.began_with.commit = "/scratch/someone/teacher", "sha256:" + "c" * 64
    for curriculum in ("two_shot", "teacher"):
        text = str(card_of(record, curriculum))
        for secret in (TOKEN, "plain-secret", "/scratch", "/home", "someone"):
            assert secret not in text, secret
        assert "tables of glue" in text


def test_the_picture_and_the_repository_are_shown_where_they_are_given():
    text = str(card_of(finetuned_record(), picture="learning_curves.png", repo_id="org/name"))
    assert "](learning_curves.png)" in text
    assert "source = 'org/name'" in text


def test_card_is_the_same_every_time_and_leaves_the_record_alone():
    record = finetuned_record()
    before = record.to_dict()
    assert len({str(card_of(record)) for _ in range(2)}) == 1
    assert record.to_dict() == before


def test_template_is_found_in_a_checkout():
    assert template_path(TEMPLATE).is_file()
