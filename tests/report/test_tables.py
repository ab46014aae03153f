"""The table: honest medians and spread, what was not reached last, and every form parses back."""

from __future__ import annotations

import csv
import dataclasses
import io

import pytest
from sample_records import labels_only_record, sample_record, student

from hf_distill.report.tables import (
    headers,
    headline,
    spread,
    summary_markdown,
    summary_table,
    to_csv,
    to_markdown,
)


def outcomes(curriculum, *pairs):
    return [
        dataclasses.replace(student(curriculum, seed), final_metrics={"accuracy": value}, steps_to_level=steps)
        for seed, (value, steps) in enumerate(pairs)
    ]


def test_not_reached_comes_after_reached_however_good_the_end_is():
    runs = [
        *outcomes("never", (0.98, None), (0.98, None), (0.98, None)),
        *outcomes("slow", (0.995, 900), (0.995, 1000), (0.995, 1100)),
        *outcomes("fast", (0.991, 500), (0.992, 600), (0.2, None)),
    ]
    table = summary_table(sample_record(runs=runs))
    assert [row.curriculum for row in table.rows] == ["fast", "slow", "never"]
    assert [row.steps_to_level for row in table.rows] == [600, 1000, None]
    assert [row.reached for row in table.rows] == [2, 3, 0]
    assert [row.place for row in table.rows] == [2, 1, 0]


def test_seed_that_never_got_there_counts_as_infinitely_many_steps():
    (row,) = summary_table(sample_record(runs=outcomes("a", (0.99, 100), (0.5, None), (0.5, None)))).rows
    assert row.steps_to_level is None
    assert row.reached == 1


def test_failed_seed_is_not_hidden_by_the_median():
    (row,) = summary_table(sample_record(runs=outcomes("a", (0.9, None), (None, None), (0.7, None)))).rows
    assert row.median == pytest.approx(0.8)
    assert spread(row) == "0.8000 [0.7000 – 0.9000] (2 of 3 seeds measured)"


def test_retention_is_the_median_over_the_teachers_metric():
    table = summary_table(sample_record(runs=outcomes("a", (0.8, None))))
    assert table.rows[0].retention == pytest.approx(0.8 / 0.9985)
    assert summary_table(labels_only_record()).rows[0].retention is None


def test_smaller_is_better_turns_the_order_round():
    record = sample_record(runs=[*outcomes("worse", (3.0, None)), *outcomes("better", (2.0, None))])
    record.task.update(greater_is_better=False, level=None)
    assert [row.curriculum for row in summary_table(record).rows] == ["better", "worse"]


def test_columns_about_levels_and_teachers_need_a_level_and_a_teacher():
    assert len(headers(summary_table(sample_record()))) == 7
    assert headers(summary_table(labels_only_record())) == [
        "curriculum",
        "seeds",
        "final accuracy",
        "time of a student",
    ]


def test_markdown_keeps_its_columns_whatever_the_cells_hold():
    text = to_markdown(["name", "value"], [["a|b", "<img src=x>"], ["c\nd", "`x`"]])
    lines = text.splitlines()
    assert len(lines) == 4
    assert lines[2] == "| a\\|b | \\<img src=x> |"
    assert lines[3] == "| c d | \\`x\\` |"
    assert summary_markdown(summary_table(sample_record())).count("not reached") == 2


def test_csv_holds_the_numbers_themselves():
    table = summary_table(sample_record())
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [row["curriculum"] for row in rows] == [row.curriculum for row in table.rows]
    assert float(rows[0]["median"]) == table.rows[0].median
    assert rows[0]["seeds"] == "0 1 2"
    assert rows[1]["steps_to_level"] == ""


@pytest.mark.parametrize(
    ("runs", "text"),
    [
        ([], "No student was trained."),
        (
            [*outcomes("a", (0.995, 600)), *outcomes("b", (0.5, None))],
            "a reaches accuracy 0.99 in 600 steps (1 of 1 seeds). Not reached by b (ends at 0.5000).",
        ),
        (
            outcomes("a", (0.995, 600), (0.5, None), (0.5, None)),
            "a reaches it with 1 of 3 seeds only.",
        ),
        (
            outcomes("a", (0.6, None)),
            "Final held-out accuracy, median over seeds: a 0.6000. No student reached accuracy 0.99.",
        ),
    ],
)
def test_headline_says_what_came_out(runs, text):
    assert headline(summary_table(sample_record(runs=runs))) == text
