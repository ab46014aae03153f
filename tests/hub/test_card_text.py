"""The sections of a card: numbers equal the record's, and Markdown stays Markdown."""

from __future__ import annotations

import dataclasses

from sample_records import COMMITS, labels_only_record, sample_record, taught_record

from hf_distill.hub.card_data import base_models
from hf_distill.hub.card_text import fenced, student_card_text


def text_of(record, index=-1, repo_id=None):
    return student_card_text(record, record.runs[index], repo_id=repo_id)


def test_every_revision_that_taught_is_listed_with_its_commit():
    text = text_of(sample_record())
    assert all(f"| {name} |" in text["revisions_table"] for name in COMMITS)
    assert all(commit in text["revisions_table"] for commit in COMMITS.values())
    assert text["other_revisions_table"] == ""
    one_shot = text_of(sample_record(), index=3)
    assert "step-3200" not in one_shot["revisions_table"]
    assert "step-3200" in one_shot["other_revisions_table"]


def test_curriculum_is_a_table_of_stages():
    lines = text_of(sample_record())["stages_table"].splitlines()
    assert lines[2].endswith("| 0 | 300 |")
    assert lines[3].endswith("| 300 | 1,200 |")
    assert len(lines) == 4


def test_student_stands_beside_the_teacher_and_the_baselines():
    text = text_of(sample_record())
    assert "| accuracy | 0.9970 | 0.9985 |" in text["metrics_table"]
    assert "`labels` is the baseline that learned from labels alone." in text["baselines_sentence"]
    assert "`one_shot` is the baseline that learned from the finished teacher alone." in text["baselines_sentence"]
    assert text["comparison_table"].count("\n| ") == 4


def test_missing_baselines_are_admitted():
    record = sample_record()
    record.runs = record.runs[-1:]
    text = text_of(record)
    assert "labels alone or the finished teacher alone" in text["baselines_sentence"]
    assert any(limit.startswith("One seed") for limit in text["limits"])


def test_teacher_is_absent_from_a_student_of_labels():
    text = text_of(sample_record(), index=0)
    assert text["teacher_taught"] is False
    assert "teacher" not in text["models_table"]
    assert "teacher" not in text["metrics_table"]
    assert text["citation_block"] == ""


def test_the_code_loads_from_the_repository_where_there_is_one():
    assert "source = 'acme/student'" in text_of(sample_record(), repo_id="acme/student")["code_block"]
    assert 'source = "."' in text_of(sample_record())["code_block"]


def test_costs_that_were_not_measured_are_left_out():
    record = labels_only_record()
    record.environment = {}
    assert text_of(record)["cost_table"] == "Not measured."
    assert "| peak memory | 700 MiB |" in text_of(sample_record())["cost_table"]


def test_pipes_in_terms_do_not_break_the_table():
    record = sample_record()
    run = record.runs[-1]
    stage = dataclasses.replace(run.stages[0], terms=["KL(p|q)", "0.5·H"])
    record.runs[-1] = dataclasses.replace(run, stages=[stage])
    assert "KL(p\\|q) + 0.5·H" in text_of(record)["stages_table"]


def test_fence_is_longer_than_the_backticks_inside():
    assert fenced("a ```` b", "yaml").startswith("`````yaml\n")
    assert fenced("plain", "bash") == "```bash\nplain\n```\n"


def test_latency_and_size_stand_in_the_card_where_they_were_measured():
    record = sample_record()
    measured = {"median_seconds": 0.0021, "low_seconds": 0.002, "high_seconds": 0.003, "repeats": 15, "examples": 1}
    record.student["latency"] = {**measured, "device": "cpu", "weight_bytes": 6792}
    record.teacher["latency"] = {**measured, "median_seconds": 0.0084, "device": "cpu", "weight_bytes": 200_000}
    costs = text_of(record)["cost_table"]
    assert "| latency of this student | 2.1 ms for 1 example on cpu, median of 15 [2 ms – 3 ms] |" in costs
    assert "| latency of the teacher | 8.4 ms" in costs
    assert "| weights of this student | 6.633 KiB |" in costs
    assert "latency of the teacher" not in text_of(record, index=0)["cost_table"]


def test_an_architecture_of_our_own_says_that_hf_distill_is_needed():
    record = sample_record()
    assert "Needs hf_distill" in text_of(record)["limits"][0]
    record.student["origin"] = {"architecture": "bert", "config": {}}
    assert not any("Needs hf_distill" in limit for limit in text_of(record)["limits"])


def test_a_record_without_a_command_has_no_command_block():
    assert text_of(sample_record(command=[]))["command_block"] == ""


def test_members_are_listed_below_what_is_made_of_them_with_their_pins():
    record = taught_record()
    text = text_of(record)
    table = text["revisions_table"]
    assert f"| ladder | ladder of 2, by loss | – | sha256:{'c' * 64} |" in table
    assert f"| · main | org/assistant | – | {'b' * 40} |" in table
    assert f"| · checkpoint-60 | local folder | 60 | sha256:{'a' * 64} |" in table
    assert "a ladder of 2 teachers, one of which answered each example" in text["summary"]
    assert "| teacher | resnet (depths [2, 2]) | labels | 90,000 | 0.9800 |" in text["models_table"]
    assert "| training the teachers | 12.5 s |" in text["cost_table"]
    assert base_models(record, record.runs[0]) == ["org/assistant"]


def test_a_student_that_was_an_adapter_is_said_to_be_merged():
    record = sample_record()
    assert "adapter" not in text_of(record)["summary"]
    record.student["lora"] = {"r": 4}
    assert "trained with hf_distill as a LoRA adapter, merged into its base" in text_of(record)["summary"]
    record.student.update(export="adapter", quantization={"load_in_4bit": True})
    text = text_of(record)["summary"]
    assert "as a LoRA adapter on a quantised base, which is what lies here: its base is loaded beside" in text
