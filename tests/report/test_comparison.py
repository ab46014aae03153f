"""Runs that measured the same thing stand in one table, others apart with the reason, and no number is made up."""

from __future__ import annotations

import csv
import io

import pytest
from evaluated import sample_evaluation
from sample_records import sample_record

from hf_distill.report.comparison import (
    blocks_of,
    compared_cells,
    compared_csv,
    compared_headers,
    compared_markdown,
    compared_pareto,
    measured,
    read_runs,
    reasons_apart,
    smallest_timing,
)


def saved(folder, name, *, accuracy=0.0, evaluation=None, **changes):
    """Write a run whose final accuracies are shifted by `accuracy`; return its folder."""
    record = sample_record(name=name, **changes)
    for run in record.runs:
        run.final_metrics = {**run.final_metrics, "accuracy": run.final_metrics["accuracy"] + accuracy}
    (folder / name).mkdir()
    record.save(folder / name)
    if evaluation is not None:
        evaluation.save(folder / name)
    return folder / name


@pytest.fixture
def folders(tmp_path):
    return [saved(tmp_path, "first"), saved(tmp_path, "second", accuracy=-0.2)]


def test_runs_of_one_task_share_a_table_best_first(folders):
    (block,) = blocks_of(read_runs(folders))
    assert block.runs == ("first", "second")
    shown = [(row.run, row.label) for row in block.rows]
    assert shown[0] == ("first, second", "teacher"), "one teacher of both runs stands there once"
    assert shown[1] == ("first", "two_shot")
    assert shown[2] == ("second", "two_shot")
    metrics = [row.metric for row in block.rows]
    assert metrics == sorted(metrics, reverse=True)
    students = [row for row in block.rows if row.summary is not None]
    assert [row.place for row in students] == list(range(6))


def test_other_teachers_stand_there_each(tmp_path):
    first = saved(tmp_path, "first")
    other = sample_record().teacher
    other["revisions"][-1]["commit"] = "c" * 40
    second = saved(tmp_path, "second", teacher=other)
    (block,) = blocks_of(read_runs([first, second]))
    assert [row.run for row in block.rows if row.label == "teacher"] == ["first", "second"]


def test_another_metric_or_other_held_out_data_stand_apart_with_the_reason(folders, tmp_path):
    task = sample_record().task
    more = [
        saved(tmp_path, "third", task={**task, "metric": "loss", "greater_is_better": False}),
        saved(tmp_path, "fourth", task={**task, "description": {**task["description"], "validation_rows": 17}}),
    ]
    runs = read_runs([*folders, *more])
    blocks = blocks_of(runs)
    assert [block.runs for block in blocks] == [("first", "second"), ("third",), ("fourth",)]
    reasons = reasons_apart(blocks, runs)
    assert "third stands apart from first, second" in reasons[0]
    assert "metric (accuracy against loss)" in reasons[0]
    assert "validation_rows (4000 against 17)" in reasons[1]


def test_other_training_data_do_not_part_runs_and_are_said(tmp_path):
    first = saved(tmp_path, "first")
    task = sample_record().task
    recipe = sample_record().recipe
    second = saved(
        tmp_path,
        "second",
        task={**task, "description": {**task["description"], "train_rows": 5}},
        recipe={**recipe, "task": {**recipe["task"], "train_examples": 5}},
    )
    (block,) = blocks_of(read_runs([first, second]))
    assert block.notes == ("Measured on the same held-out data; the runs differ in task.train_examples.",)
    assert "train_rows" not in str(measured(sample_record()))


def test_latencies_are_compared_only_where_all_were_timed_alike(tmp_path):
    alike = [saved(tmp_path, name, evaluation=sample_evaluation()) for name in ("first", "second")]
    (block,) = blocks_of(read_runs(alike))
    assert block.timed
    assert "latency, 1 × 32 tokens" in compared_headers(block)
    assert compared_pareto(block).cost == "latency"
    assert "cpu, 2 threads" in compared_pareto(block).cost_text
    other = sample_evaluation(environment={"device": "cuda", "torch_threads": 2, "torch": "2.13.0"})
    for evaluation, why in ((other, "another machine"), (None, "not every run was evaluated")):
        places = [alike[0], saved(tmp_path, why.replace(" ", "-"), evaluation=evaluation)]
        (block,) = blocks_of(read_runs(places))
        assert not block.timed
        assert why in " ".join(block.notes)
        assert not any("latency" in head for head in compared_headers(block))
        assert compared_pareto(block).cost == "parameters"


def test_fidelity_is_shown_for_the_runs_that_have_it(tmp_path):
    places = [saved(tmp_path, "first", evaluation=sample_evaluation()), saved(tmp_path, "second")]
    (block,) = blocks_of(read_runs(places))
    column = compared_headers(block).index("agreement")
    shown = {tuple(cells[:2]): cells[column] for cells in compared_cells(block)}
    assert shown["first", "two_shot"] == "0.9000"
    assert shown["second", "two_shot"] == "–"


def test_points_are_named_after_their_run_and_have_its_parameters(folders):
    (block,) = blocks_of(read_runs(folders))
    info = compared_pareto(block)
    by_label = {point.label: point for point in info.points}
    assert by_label["first: two_shot"].cost == 1698
    assert by_label["first, second: teacher"].cost == 53002
    assert [info.points[place].label for place in info.front] == ["first: two_shot", "first, second: teacher"]


def test_a_model_without_a_number_of_parameters_is_no_point(folders, tmp_path):
    unknown = saved(tmp_path, "third", student={"origin": {"architecture": "x"}})
    (block,) = blocks_of(read_runs([*folders, unknown]))
    assert not any(point.label.startswith("third: two_shot") for point in compared_pareto(block).points)
    assert ("third", "two_shot") in {(row.run, row.label) for row in block.rows}


def test_csv_numbers_every_block(folders, tmp_path):
    task = {**sample_record().task, "metric": "loss", "greater_is_better": False}
    runs = read_runs([*folders, saved(tmp_path, "third", task=task)])
    rows = list(csv.DictReader(io.StringIO(compared_csv(blocks_of(runs)))))
    assert {row["block"] for row in rows} == {"1", "2"}
    assert {row["run"] for row in rows if row["block"] == "2"} == {"third"}
    two_shot = next(row for row in rows if (row["run"], row["model"]) == ("first", "two_shot"))
    assert float(two_shot["median"]) == pytest.approx(0.997)
    assert two_shot["seeds"] == "0 1 2"
    assert two_shot["latency_seconds"] == ""


def test_markdown_has_a_row_a_model(folders):
    (block,) = blocks_of(read_runs(folders))
    lines = compared_markdown(block).splitlines()
    assert lines[0].startswith("| run | model | seeds | final accuracy |")
    assert len([line for line in lines if line.startswith("|")]) == 2 + 7


def test_runs_of_one_name_are_told_apart_and_the_same_run_twice_is_refused(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        sample_record(name="same").save(tmp_path / place)
    names = [run.name for run in read_runs([tmp_path / "a", tmp_path / "b"])]
    assert names == [f"same ({tmp_path / place})" for place in ("a", "b")]
    with pytest.raises(ValueError, match="the same run is named twice"):
        read_runs([tmp_path / "a", tmp_path / "a" / "run_record.json"])


def test_the_smallest_batch_is_the_latency(tmp_path):
    place = saved(tmp_path, "first", evaluation=sample_evaluation())
    (block,) = blocks_of(read_runs([place]))
    timed = {row.label: smallest_timing(row) for row in block.rows}
    assert timed["two_shot"].batch_size == 1
    assert timed["teacher"].median_seconds == pytest.approx(0.012)
