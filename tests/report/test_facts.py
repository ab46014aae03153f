"""The list of what was run says what the record says and leaves out what it does not."""

from __future__ import annotations

from sample_records import labels_only_record, sample_record

from hf_distill.report.facts import facts_of


def test_facts_of_a_comparison():
    facts = dict(facts_of(sample_record()))
    assert facts["Task"] == "parity · classification"
    assert facts["Rows"] == "60,000 to train on, 4,000 held out"
    assert facts["Teacher"] == "acme/parity-teacher@step-* · 53,002 parameters"
    assert facts["Students trained"] == "9 (seeds 0, 1, 2)"
    assert facts["Time"] == "2 min 05 s, teacher included"
    assert "Adapter" not in facts


def test_what_is_not_known_is_left_out():
    facts = dict(facts_of(labels_only_record()))
    assert "Teacher" not in facts
    assert facts["Students trained"] == "1 (seed 0)"


def test_an_adapter_and_an_unfinished_run_are_said():
    record = sample_record(finished=None)
    record.student |= {"lora": {"r": 4}, "trained_parameters": 96}
    facts = dict(facts_of(record))
    assert facts["Adapter"] == "LoRA (r 4) · 96 parameters trained, then merged"
    assert facts["Time"] == "not finished"
