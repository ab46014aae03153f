"""The metadata block: what the Hub accepts, equal to the record, and no local folder taken for a repository."""

from __future__ import annotations

import pytest
from sample_records import labels_only_record, sample_record

from hf_distill.hub.card_data import adapter_text, base_models, hub_datasets, is_hub_id, student_card_data


def data_of(record, index=-1, **options):
    options = {"name": "n", "license": None, "language": None, **options}
    return student_card_data(record, record.runs[index], **options).to_dict()


def test_teacher_and_origin_are_base_models_and_not_a_merge():
    record = sample_record()
    record.student["origin"] = {"pretrained": "acme/small", "revision": "main"}
    data = data_of(record)
    assert data["base_model"] == ["acme/small", "acme/parity-teacher"]
    assert data["base_model_relation"] == "finetune"


def test_student_of_labels_does_not_name_the_teacher_of_the_others():
    data = data_of(sample_record(), index=0)
    assert "base_model" not in data
    assert "base_model_relation" not in data
    assert "knowledge-distillation" not in data["tags"]


def test_a_student_that_was_cut_out_of_its_teacher_names_it_whatever_it_learned_from():
    record = sample_record()
    record.student.update(origin={"from_teacher": {"layers": "first:1"}})
    for revision, commit, named in (("main", "a" * 40, ["acme/cut"]), (None, "sha256:" + "c" * 64, [])):
        record.student["made"] = {"teacher": "acme/cut", "revision": revision, "commit": commit}
        assert base_models(record, record.runs[0]) == named


def test_local_teacher_is_no_repository_even_if_it_looks_like_one():
    record = sample_record()
    for revision in record.teacher["revisions"]:
        revision.update(source="runs/teacher", commit="sha256:" + "c" * 64)
    assert base_models(record, record.runs[-1]) == []


def test_local_student_origin_is_no_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("runs/student")
    (tmp_path / "runs" / "student").mkdir(parents=True)
    assert not is_hub_id("runs/student")
    assert not is_hub_id("/runs/student")
    assert not is_hub_id("student")


def test_one_repository_a_step_lists_every_teacher_once():
    record = sample_record()
    for step, revision in enumerate(record.teacher["revisions"]):
        revision["source"] = f"acme/teacher-step_{step}k"
    assert base_models(record, record.runs[-1]) == ["acme/teacher-step_0k", "acme/teacher-step_1k"]


def test_data_sets_keep_the_commit_that_was_read():
    assert hub_datasets({"datasets": ["acme/text@" + "d" * 40, "acme/more", "python-docs"]}) == [
        ("acme/text", "d" * 40),
        ("acme/more", None),
    ]
    assert hub_datasets({}) == []


@pytest.mark.parametrize(
    ("head", "tag"),
    [
        ("classification", "text-classification"),
        ("regression", "text-classification"),
        ("masked_lm", "fill-mask"),
        ("causal_lm", "text-generation"),
    ],
)
def test_pipeline_needs_a_text_task(head, tag):
    record = sample_record()
    record.task["head"] = head
    assert "pipeline_tag" not in data_of(record)
    record.task["description"]["tokenizer"] = "acme/tokenizer"
    assert data_of(record)["pipeline_tag"] == tag


def test_results_equal_the_record_and_leave_out_what_is_not_finite():
    record = sample_record()
    record.runs[-1].final_metrics = {"accuracy": 0.75, "loss": None, "perplexity": float("inf")}
    record.task["description"]["datasets"] = ["acme/text@" + "d" * 40]
    (result,) = data_of(record)["model-index"][0]["results"]
    assert [(metric["type"], metric["value"]) for metric in result["metrics"]] == [("accuracy", 0.75)]
    assert result["dataset"]["type"] == "acme/text"
    assert result["dataset"]["revision"] == "d" * 40


def test_results_of_another_split_are_filed_under_it_and_the_task_by_its_title():
    record = sample_record()
    record.runs[-1].final_metrics = {"f1": 0.75, "f1_test": 0.5, "f1_hard_test": 0.25}
    record.task["description"] |= {
        "datasets": ["nyu-mll/glue"],
        "title": "MRPC (GLUE)",
        "config": "mrpc",
        "further_rows": {"test": 9, "hard_test": 3},
    }
    results = data_of(record)["model-index"][0]["results"]
    found = {result["dataset"]["split"]: result["metrics"] for result in results}
    assert {split: [(one["type"], one["value"]) for one in metrics] for split, metrics in found.items()} == {
        "validation": [("f1", 0.75)],
        "test": [("f1", 0.5)],
        "hard_test": [("f1", 0.25)],
    }
    assert {(result["task"]["name"], result["dataset"]["config"]) for result in results} == {("MRPC (GLUE)", "mrpc")}


def test_license_and_language_are_passed_through_and_never_invented():
    data = data_of(labels_only_record(), license="mit", language=["en", "de"])
    assert (data["license"], data["language"]) == ("mit", ["en", "de"])
    assert not {"license", "language"} & set(data_of(labels_only_record()))


def image_record():
    record = sample_record()
    record.task["description"] |= {"inputs": "pixel_values", "image_processor": "ViTImageProcessor"}
    return record


def test_a_student_of_images_is_not_filed_under_text():
    data = data_of(image_record())
    assert data["pipeline_tag"] == "image-classification"
    assert data["model-index"][0]["results"][0]["task"]["type"] == "image-classification"


def test_a_pipeline_is_not_promised_without_what_it_reads_with():
    record = image_record()
    record.task["description"]["image_processor"] = None
    assert "pipeline_tag" not in data_of(record)
    assert "pipeline_tag" not in data_of(sample_record())
    grey = image_record()
    grey.task["description"]["channels"] = 1
    assert "pipeline_tag" not in data_of(grey), "the pipeline shows RGB"


def test_an_adapter_is_said_to_be_merged_unless_it_lies_alone():
    assert adapter_text({}) == ""
    assert adapter_text({"lora": {"r": 4}}) == " as a LoRA adapter, merged into its base"
    alone = adapter_text({"lora": {"r": 4}, "export": "adapter", "quantization": {"load_in_4bit": True}})
    assert alone == " as a LoRA adapter on a quantised base, which is what lies here: its base is loaded beside"
