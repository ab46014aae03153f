from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path

import pytest
from evaluated import downstream_block
from finetunes import finetuned_recipe
from sample_records import sample_record
from teaching_recipes import teaching_recipe
from tiny_recipes import parity_recipe

from hf_distill.cli import describe
from hf_distill.pipeline.scoring import TeacherScores
from hf_distill.teachers.listing import ListedRevision
from hf_distill.teachers.revisions import Revision


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """The lines shown so far, runs of spaces as one."""
    monkeypatch.setenv("COLUMNS", "200")
    return lambda: [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_a_row_shows_median_spread_and_how_many_reached_the_level(lines, tmp_path):
    record = sample_record()
    describe.show_result(record, parity_recipe(tmp_path, report={"enabled": True}))
    shown = lines()
    for row in record.summary():
        (line,) = [line for line in shown if line.startswith(f"{row['curriculum']} ")]
        assert f"{row['median']:.4g} {row['min']:.4g} – {row['max']:.4g}" in line
        assert f"{row['reached']} of 3" in line
        assert ("not reached" in line) == (row["steps_to_level"] is None)
    assert shown[-2] == "teacher: accuracy 0.9985; two-shot revision: step-3200"
    assert shown[-1] == f"report: {tmp_path / 'report.html'}"


def test_a_run_without_teacher_and_level_is_shown(lines, tmp_path):
    record = sample_record(teacher={})
    record.task["level"] = None
    record.runs = [run for run in record.runs if run.curriculum == "labels"]
    describe.show_result(record, parity_recipe(tmp_path))
    shown = lines()
    assert shown[1] == "curriculum accuracy, median min – max seconds"
    assert shown[-1] == f"record: {tmp_path / 'run_record.json'}"
    assert not [line for line in shown if line.startswith("teacher")]


def test_a_run_that_chose_no_revision_names_none(lines, tmp_path):
    record = sample_record()
    record.teacher["chosen"] = None
    describe.show_result(record, parity_recipe(tmp_path))
    assert lines()[-2] == "teacher: accuracy 0.9985"


def test_the_chosen_revision_is_marked(lines):
    scores = [{"name": f"step{n}", "step": n, "loss": 1 / n, "accuracy": n / 30} for n in (10, 20, 30)]
    describe.show_scores(TeacherScores(scores, "step20", "it is in the middle", Path("a [b]/teacher_scores.png")))
    shown = lines()
    assert shown[0] == "revision step loss accuracy"
    assert shown[2] == "step20 20 0.05 0.6667 ← in the sharp drop"
    assert sum("←" in line for line in shown) == 1
    assert shown[-2:] == ["it is in the middle", "picture: a [b]/teacher_scores.png"]


def test_scores_without_a_choice_give_the_reason(lines):
    scores = [{"name": "a", "step": None, "loss": 1.0}, {"name": "b", "step": 143000, "loss": 1.0}]
    describe.show_scores(TeacherScores(scores, None, "never learnt", None))
    assert lines()[1:] == ["a – 1", "b 143000 1", "never learnt"]


def test_revisions_are_shown_with_pin_size_and_notes(lines):
    local = Revision(name="checkpoint-10", step=10, source="teacher", revision=None, commit="sha256:" + "a" * 64)
    hub = Revision(name="main", step=None, source="org/model", revision="main", commit="b" * 40)
    day = datetime(2026, 11, 21, 9, 30, tzinfo=timezone.utc)
    listed = [
        ListedRevision(revision=local, date=day, size=2_500_000, cached="yes"),
        ListedRevision(revision=hub, date=None, size=1_000_000_000, cached="no"),
    ]
    describe.show_revisions(listed, notes=["3 commits [left] out"])
    shown = lines()
    assert shown[1] == "checkpoint-10 10 teacher sha256:aaaaaaaa 2026-11-21 09:30 2.5 MB yes"
    assert shown[2] == "main – org/model bbbbbbbbbbbb – 1.0 GB no"
    assert shown[3] == "2 revisions, 1.0 GB; 1 not whole in the cache, 1.0 GB"
    assert shown[4] == "3 commits [left] out"


@pytest.mark.parametrize("width", ["80", "60"])
def test_a_source_that_all_revisions_share_takes_no_column(lines, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", width)
    source = "somewhere/with/a/long/name/runs/parity-quickstart/teacher"
    listed = [
        ListedRevision(
            revision=Revision(
                name=f"checkpoint-{step}", step=step, source=source, revision=None, commit="sha256:" + "a" * 64
            ),
            date=datetime(2026, 11, 21, 9, 30, tzinfo=timezone.utc),
            size=2_500_000,
            cached="yes",
        )
        for step in (10, 20_000)
    ]
    describe.show_revisions(listed)
    shown = lines()
    assert shown[0] == "revision step commit date size"
    assert [line.split()[:3] for line in shown if "checkpoint" in line] == [
        ["checkpoint-10", "10", "sha256:aaaaaaaa"],
        ["checkpoint-20000", "20000", "sha256:aaaaaaaa"],
    ]
    assert shown[-1] == f"2 revisions of {source}, 5.0 MB; all on disk"


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), (1.0, "1"), (0.123456, "0.1235"), (3, "3"), (1.5e-5, "1.5e-05")]
)
def test_numbers_are_short(value, text):
    assert describe.number(value) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1_500, "1.5 kB"), (3_210_000_000, "3.2 GB")])
def test_sizes_are_in_powers_of_ten(size, text):
    assert describe.size_text(size) == text


def test_a_long_line_stays_in_one_piece(lines):
    path = "/".join(["folder"] * 60)
    describe.show_line(f"picture: {path} [bold]")
    assert lines() == [f"picture: {path} [bold]"]


def test_a_check_shows_who_teaches_whom(lines, tmp_path):
    describe.check_recipe(teaching_recipe(tmp_path / "run", "takd"))
    shown = lines()
    assert shown[:5] == [
        "who model learns from",
        "teacher parity_mlp (width 64) labels",
        "assistant 1 parity_mlp (width 48) the teacher, by one_shot",
        "assistant 2 parity_mlp (width 40) assistant 1, by one_shot",
        "students assistant 2",
    ]
    assert shown[-1].startswith("The recipe is sound: 1 student would be trained")


def test_fine_tunings_are_shown_below_the_students(lines, tmp_path):
    record = sample_record(downstream=[downstream_block()])
    describe.show_result(record, parity_recipe(tmp_path))
    shown = lines()
    assert "fine-tuned on cola" in shown
    assert any(line.startswith("from_scratch 0.1 ") for line in shown)
    assert shown.index("fine-tuned on cola") < shown.index(f"record: {tmp_path}/run_record.json")


def test_a_check_says_from_where_it_would_fine_tune(lines, tmp_path):
    describe.check_recipe(finetuned_recipe(tmp_path, block={"teacher": True}))
    shown = lines()
    assert "Fine-tuned on other: two_shot, from_scratch, teacher" in shown
    assert any("1 student and 3 fine-tunings would be trained" in line for line in shown)
