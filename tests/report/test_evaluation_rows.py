"""The table of an evaluation: medians over seeds, teachers first, no empty column, and what its numbers are."""

from __future__ import annotations

import pytest
from evaluated import result, sample_evaluation, timing

from hf_distill.report.evaluation_rows import (
    batch_text,
    evaluated_cells,
    evaluated_headers,
    evaluated_markdown,
    evaluated_note,
    evaluated_table,
    timing_text,
)


def test_students_are_medians_over_their_seeds_best_first_after_the_teacher():
    table = evaluated_table(sample_evaluation())
    assert [(row.label, row.role) for row in table.rows] == [
        ("teacher, checkpoint-160", "teacher"),
        ("two_shot", "student"),
        ("one_shot", "student"),
        ("labels", "student"),
        ("org/middle", "baseline"),
    ]
    two_shot = table.rows[1]
    assert (two_shot.metric, two_shot.low, two_shot.high) == pytest.approx((0.80, 0.79, 0.81))
    assert two_shot.seeds == (0, 1, 2)
    assert two_shot.retention == pytest.approx(0.80 / 0.90)
    assert table.rows[0].retention is None
    # The colour is that of the curriculum in the run, whatever its rank here.
    assert [row.place for row in table.rows] == [None, 2, 1, 0, None]


def test_a_metric_of_which_less_is_better_turns_the_order():
    task = {"name": "x", "head": "causal_lm", "metric": "loss", "greater_is_better": False}
    models = [result(key, curriculum=key, seed=0, metrics={"loss": loss}) for key, loss in (("a", 2.0), ("b", 1.0))]
    assert [row.label for row in evaluated_table(sample_evaluation(task=task, models=models)).rows] == ["b", "a"]


def test_a_model_without_a_finite_metric_comes_last_and_is_not_hidden():
    models = [
        result("a", curriculum="a", seed=0, metrics={"accuracy": None}),
        result("b", curriculum="b", seed=0, metrics={"accuracy": 0.1}),
    ]
    table = evaluated_table(sample_evaluation(models=models))
    assert [(row.label, row.metric) for row in table.rows] == [("b", 0.1), ("a", None)]
    assert evaluated_cells(table)[1][2] == "–"


def test_columns_that_nobody_has_a_number_for_are_left_out():
    heads = evaluated_headers(evaluated_table(sample_evaluation()))
    assert heads[:4] == ["model", "seeds", "accuracy", "÷ teacher"]
    assert "squared error to the teacher" not in heads
    bare = sample_evaluation(models=[result("a", fidelity=None, calibration=None, shape=None)], reference={})
    assert evaluated_headers(evaluated_table(bare)) == ["model", "accuracy", "parameters", "on disk"]


def test_latency_stands_there_for_every_batch_and_throughput_for_the_largest():
    table = evaluated_table(sample_evaluation())
    heads = evaluated_headers(table)
    assert [head for head in heads if "32 tokens" in head] == [
        "latency, 1 × 32 tokens",
        "latency, 16 × 32 tokens",
        "examples per second, 16 × 32 tokens",
    ]
    student = dict(zip(heads, evaluated_cells(table)[1], strict=True))
    assert student["latency, 1 × 32 tokens"] == "2 ms [1.9 ms – 2.2 ms]"
    assert student["examples per second, 16 × 32 tokens"] == "2,000"


def test_tasks_of_the_harness_are_columns():
    models = [
        result(f"s{seed}", curriculum="a", seed=seed, lm_eval={"cats": {"acc": 0.2 * seed, "acc_stderr": 0.1}})
        for seed in range(3)
    ]
    table = evaluated_table(sample_evaluation(models=models))
    assert table.rows[0].lm_eval == {"cats acc": pytest.approx(0.2)}
    assert "cats acc" in evaluated_headers(table)


def test_the_note_says_what_was_compared_and_how_it_was_timed():
    note = evaluated_note(evaluated_table(sample_evaluation()))
    assert "are with checkpoint-160" in note
    assert "median of 20 forwards" in note
    assert "cpu, 2 threads" in note
    untimed = evaluated_note(evaluated_table(sample_evaluation(timings=[], reference={})))
    assert "forwards" not in untimed
    assert "Agreement" not in untimed


def test_markdown_is_one_table_with_its_note():
    lines = evaluated_markdown(evaluated_table(sample_evaluation())).splitlines()
    assert len([line for line in lines if line.startswith("|")]) == 2 + 5
    assert lines[-1].startswith("Accuracy on all held-out data")


def test_batches_of_one_example_without_tokens_are_said_so():
    assert batch_text(timing("s", 1, 0.1, length=None)) == "1 example"
    assert batch_text(timing("s", 4, 0.1, length=None)) == "4 examples"
    assert timing_text(None) == "–"
