"""Stages and revisions as rows: steps that differ over seeds are ranges, and what taught is marked."""

from __future__ import annotations

from sample_records import sample_record, taught_record

from hf_distill.report.stages import loss_formulas, revision_rows, stage_rows


def test_a_switch_at_another_step_in_each_seed_is_a_range():
    record = sample_record()
    two_shot = [run for run in record.runs if run.curriculum == "two_shot"]
    two_shot[1].stages[1].start = two_shot[1].stages[0].end = 350
    rows = [row for row in stage_rows(record) if row["curriculum"] == "two_shot"]
    assert [(row["start"], row["end"]) for row in rows] == [("0", "300 – 350"), ("300 – 350", "1,200")]
    assert [row["rows"] for row in rows] == [2, 0]


def test_a_formula_is_shown_only_where_it_says_more_than_the_stages():
    record = sample_record()
    assert loss_formulas(record) == {}
    record.runs[0].loss_formula = "something else"
    assert loss_formulas(record) == {"labels": "something else"}


def test_revisions_that_taught_are_marked_and_members_stand_below():
    assert [row["taught"] for row in revision_rows(sample_record())] == [True, True]
    names = [row["name"] for row in revision_rows(taught_record())]
    assert names == ["ladder", "· main", "· checkpoint-60"]
