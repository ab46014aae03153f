from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluated import downstream_block
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_records import sample_record

from hf_distill.redaction import BLANK
from hf_distill.run_record import RevisionRecord, RunRecord, StageRecord, StudentRun, first_step_at_level
from hf_distill.strict_dataclass import from_mapping


def student_run(curriculum: str = "two_shot", seed: int = 0, **changes: Any) -> StudentRun:
    """Return a short two-stage training."""
    fields: dict[str, Any] = {
        "curriculum": curriculum,
        "seed": seed,
        "folder": f"students/{curriculum}/seed-{seed}",
        "loss_formula": "1·forward_kl(T=1)",
        "stages": [
            StageRecord(name="middle", start=0, end=300, revision="step-3", terms=["1·forward_kl(T=1)"]),
            StageRecord(name="final", start=300, end=None, revision=None, terms=["1·forward_kl(T=1)"]),
        ],
        "history": [{"step": 25, "accuracy": 0.5}, {"step": 50, "accuracy": 0.995}],
        "training_log": [{"step": 25, "loss": 0.7, "objective/forward_kl": 0.7}],
        "final_metrics": {"accuracy": 0.995},
        "steps_to_level": 50,
        "costs": {"seconds": 12.0},
    }
    return StudentRun(**{**fields, **changes})


def run_record(*runs: StudentRun, **changes: Any) -> RunRecord:
    """Return the record of a parity comparison."""
    fields: dict[str, Any] = {
        "name": "parity",
        "recipe": {"output_dir": "runs/parity"},
        "command": ["hf-distill", "run", "parity/quickstart"],
        "versions": {"torch": "2.13.0"},
        "environment": {"processes": 1},
        "started": "2026-11-21T10:00:00+00:00",
        "task": {"name": "parity", "metric": "accuracy", "greater_is_better": True, "level": 0.99},
        "student": {"parameters": 1698},
        "runs": list(runs),
    }
    return RunRecord(**{**fields, **changes})


@pytest.mark.parametrize("commit", ["main", "a" * 39, "A" * 40, "sha256:", "", "a" * 41])
def test_a_revision_that_may_move_is_not_taken_for_a_pin(commit: str) -> None:
    with pytest.raises(ValueError, match=r"commit of revision 'step-1': expected a full commit"):
        RevisionRecord(name="step-1", step=1, source="org/teacher", revision="main", commit=commit)


def test_a_record_comes_back_equal(tmp_path: Path) -> None:
    record = run_record(student_run(), student_run("labels", 1, steps_to_level=None), finished="2026-11-21T10:02:00")
    record.save(tmp_path / "run_record.json")
    assert RunRecord.load(tmp_path / "run_record.json") == record


def test_a_folder_stands_for_the_record_in_it(tmp_path: Path) -> None:
    record = run_record(student_run())
    assert record.save(tmp_path) == tmp_path / "run_record.json"
    assert RunRecord.load(tmp_path) == record


def test_numbers_that_are_not_finite_do_not_break_other_json_readers(tmp_path: Path) -> None:
    run = student_run(final_metrics={"accuracy": math.nan, "loss": math.inf}, history=[{"step": 1, "loss": math.nan}])
    file = run_record(run, environment={"speed": np.float32("nan")}).save(tmp_path)
    read = json.loads(file.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert read["runs"][0]["final_metrics"] == {"accuracy": None, "loss": None}
    assert RunRecord.load(file).runs[0].history == [{"step": 1, "loss": None}]
    assert type(RunRecord.load(file).runs[0].history[0]["step"]) is int
    assert RunRecord.load(file).environment == {"speed": None}


def test_the_teachers_revisions_come_back_as_they_were_given(tmp_path: Path) -> None:
    first = RevisionRecord(name="step-1", step=1, source="org/teacher", revision="step-1", commit="a" * 40)
    second = RevisionRecord(name="final", step=None, source="out", revision=None, commit="sha256:" + "0" * 64)
    record = run_record(teacher={"source": "org/teacher", "revisions": [first, second]})
    assert record.teacher["revisions"][0]["commit"] == "a" * 40
    record.save(tmp_path)
    assert RunRecord.load(tmp_path).revisions() == [first, second]
    assert run_record().revisions() == []


def test_revisions_added_later_are_written_too(tmp_path: Path) -> None:
    record = run_record()
    revision = RevisionRecord(name="step-1", step=1, source="org/teacher", revision="step-1", commit="a" * 40)
    record.teacher.update(revisions=[revision])
    record.save(tmp_path)
    assert RunRecord.load(tmp_path).teacher == {"revisions": [asdict(revision)]}


def test_the_callers_blocks_are_not_shared_with_the_record() -> None:
    task = {"name": "parity", "nested": {"a": [1]}}
    run_record(task=task).task["nested"]["a"].append(2)
    assert task == {"name": "parity", "nested": {"a": [1]}}


def test_access_tokens_do_not_reach_the_file(tmp_path: Path) -> None:
    token = "hf_" + "aB3" * 10
    record = run_record(
        command=["hf-distill", "run", "x", "--set", f"training.hub_token={token}"],
        teacher={"source": f"https://someone:{token[3:]}@host/org/teacher"},
        environment={"tokens": [token], "launcher": "hf_distill"},
    )
    text = record.save(tmp_path).read_text(encoding="utf-8")
    assert "aB3aB3" not in text
    assert "training.hub_token=***" in text and "https://***@host/org/teacher" in text and "hf_distill" in text


def test_a_token_that_does_not_look_like_one_does_not_reach_the_file(tmp_path: Path) -> None:
    record = run_record(
        command=["hf-distill", "run", "x", "--hub-token", "opaque-1", "-s", "training.hub_token=opaque-2"],
        recipe={"output_dir": "runs/x", "training": {"hub_token": "opaque-3"}, "description": "Bearer opaque-4"},
    )
    file = record.save(tmp_path)
    assert "opaque" not in file.read_text(encoding="utf-8")
    assert RunRecord.load(file).command == [
        "hf-distill",
        "run",
        "x",
        "--hub-token",
        BLANK,
        "-s",
        f"training.hub_token={BLANK}",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not readable JSON.*run the recipe again"),
        ("", "is not readable JSON"),
        ("[]", "is no run record: it has no `schema`"),
        ("{}", "is no run record: it has no `schema`"),
        ('{"schema": 2}', r"has schema 2 \(int\), this version of hf_distill reads 1"),
        ('{"schema": 1, "naem": "x"}', r"naem: unknown key\. Did you mean `name`\?"),
        ('{"schema": 1}', "name: missing"),
    ],
)
def test_a_file_that_is_no_record_of_this_version_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "run_record.json").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as caught:
        RunRecord.load(tmp_path)
    assert str(tmp_path / "run_record.json") in str(caught.value)


def test_binary_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"There is no .*run_record\.json.*`hf-distill run` writes"):
        RunRecord.load(tmp_path)
    (tmp_path / "run_record.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not readable JSON"):
        RunRecord.load(tmp_path)


def test_a_wrong_field_deep_inside_is_named(tmp_path: Path) -> None:
    file = run_record(student_run()).save(tmp_path)
    content = json.loads(file.read_text(encoding="utf-8"))
    content["runs"][0]["stages"][1]["start"] = "300"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"runs\[0\]\.stages\[1\]\.start: expected int, got '300'"):
        RunRecord.load(file)


def test_a_record_that_cannot_be_written_leaves_the_older_one(tmp_path: Path) -> None:
    run_record(name="older").save(tmp_path)
    record = run_record(name="newer")
    record.environment["device"] = object()
    with pytest.raises(ValueError, match=r"environment\.device: a object has no JSON form"):
        record.save(tmp_path)
    assert RunRecord.load(tmp_path).name == "older"


def test_a_seed_that_never_got_there_is_not_left_out_of_the_median() -> None:
    runs = [student_run(seed=seed, steps_to_level=steps) for seed, steps in enumerate([700, None, 900])]
    row = run_record(*runs).summary()[0]
    assert (row["steps_to_level"], row["reached"], row["seeds"]) == (900, 2, [0, 1, 2])
    row = run_record(*runs[:2]).summary()[0]
    assert (row["steps_to_level"], row["reached"]) == (None, 1)


def test_a_diverged_seed_is_counted_as_not_measured() -> None:
    values = [0.5, math.nan, 0.7, None]
    runs = [student_run(seed=seed, final_metrics={"accuracy": value}) for seed, value in enumerate(values)]
    row = run_record(*runs).summary()[0]
    assert row["measured"] == 2
    assert (row["median"], row["min"], row["max"]) == (pytest.approx(0.6, abs=1e-12), 0.5, 0.7)


def test_nothing_measured_gives_an_empty_row_not_an_error() -> None:
    row = run_record(student_run(final_metrics={}, costs={}, steps_to_level=None)).summary()[0]
    assert [row[key] for key in ("median", "min", "max", "steps_to_level", "seconds")] == [None] * 5
    assert run_record().summary() == []


def test_rows_keep_the_order_of_the_runs_and_do_not_mix_curricula() -> None:
    runs = [student_run("labels", 0), student_run("two_shot", 0), student_run("labels", 1)]
    rows = run_record(*runs).summary()
    assert [(row["curriculum"], row["seeds"]) for row in rows] == [("labels", [0, 1]), ("two_shot", [0])]
    assert rows[0]["metric"] == "accuracy" and rows[0]["level"] == 0.99 and rows[0]["seconds"] == 12.0


def test_the_level_is_reached_at_the_first_point_that_holds_it() -> None:
    history = [
        {"step": 0, "accuracy": None, "loss": 0.9},
        {"step": 25, "accuracy": 0.98, "loss": 0.4},
        {"step": 50, "accuracy": 0.99, "loss": 0.5},
        {"step": 75, "accuracy": 0.2},
    ]
    assert first_step_at_level(history, metric="accuracy", level=0.99) == 50
    assert first_step_at_level(history, metric="accuracy", level=1.0) is None
    assert first_step_at_level(history, metric="loss", level=0.5, greater_is_better=False) == 25
    assert first_step_at_level(history, metric="f1", level=0.0) is None


def test_step_zero_counts_as_reached() -> None:
    assert first_step_at_level([{"step": 0, "accuracy": 1.0}], metric="accuracy", level=0.9) == 0


NUMBERS = st.none() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
METRICS = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), NUMBERS, max_size=3)
RUNS = st.builds(
    student_run,
    curriculum=st.sampled_from(["labels", "two_shot"]),
    seed=st.integers(0, 5),
    history=st.lists(METRICS, max_size=3),
    final_metrics=METRICS,
    steps_to_level=st.none() | st.integers(0, 10_000),
    costs=METRICS,
)


@settings(derandomize=True, deadline=None)
@given(st.lists(RUNS, max_size=4))
def test_reading_and_writing_again_changes_nothing(runs: list[StudentRun]) -> None:
    first = json.dumps(run_record(*runs).to_dict())
    second = json.dumps(from_mapping(RunRecord, json.loads(first)).to_dict())
    assert first == second


def test_reading_a_record_does_not_wait_for_torch() -> None:
    code = (
        "import sys, hf_distill.run_record, hf_distill.recipe.recipe\n"
        "print({'torch', 'transformers'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_members_of_a_revision_are_pinned_too():
    leaf = {"name": "main", "step": None, "source": "org/a", "revision": "main", "commit": "b" * 40}
    whole = {"name": "ensemble", "step": None, "source": "x", "revision": None, "commit": f"sha256:{'c' * 64}"}
    record = sample_record(teacher={"revisions": [{**whole, "members": [leaf]}]})
    assert record.revisions()[0].members[0].commit == "b" * 40
    record.teacher["revisions"][0]["members"][0]["commit"] = "main"
    with pytest.raises(ValueError, match=r"teacher\.revisions\[0\]\.members\[0\]: commit of revision 'main'"):
        record.revisions()


def test_a_downstream_task_is_a_record_of_its_own_with_the_fine_tuned_teacher_as_reference():
    record = sample_record(downstream=[downstream_block()])
    view = record.finetuned("cola")
    assert view.task["metric"] == "matthews_correlation"
    assert view.teacher == {"final_metrics": {"matthews_correlation": pytest.approx(0.40)}}
    assert [row["curriculum"] for row in view.summary()] == ["two_shot", "from_scratch", "teacher"]
    assert record.task["metric"] == "accuracy"
    with pytest.raises(ValueError, match=r"has no downstream task 'mrpc'; it has: cola"):
        record.finetuned("mrpc")


def test_downstream_tasks_come_back_equal(tmp_path):
    record = sample_record(downstream=[downstream_block()])
    record.save(tmp_path)
    assert RunRecord.load(tmp_path).to_dict() == record.to_dict()
