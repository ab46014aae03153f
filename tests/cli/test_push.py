"""`hf-distill push` from the shell's side: which student goes is said before anything is sent."""

from __future__ import annotations

import pytest
from finetuned_records import finetuned_record
from sample_records import sample_record
from teacher_folders import save_teacher
from typer.testing import CliRunner

from hf_distill.cli.main import app


def test_the_chosen_student_is_said_and_offline_mode_is_a_clear_error(tmp_path) -> None:
    record = sample_record()
    record.save(tmp_path)
    for run in record.runs:
        save_teacher(tmp_path / run.folder)
    result = CliRunner().invoke(app, ["push", str(tmp_path), "org/name"])
    assert "Pushing two_shot, seed" in result.output
    assert "the highest of 9 students" in result.output
    with pytest.raises(ValueError, match="offline mode is on"):
        raise result.exception


def test_a_student_that_is_not_there_is_a_clear_error(tmp_path) -> None:
    sample_record().save(tmp_path)
    result = CliRunner().invoke(app, ["push", str(tmp_path), "org/name", "--curriculum", "none"])
    with pytest.raises(ValueError, match="no student 'none'; it has: labels with seed 0"):
        raise result.exception


def test_the_chosen_fine_tuned_model_is_said_before_anything_is_sent(tmp_path) -> None:
    record = finetuned_record()
    record.save(tmp_path)
    for run in record.downstream[0].runs:
        save_teacher(tmp_path / run.folder)
    result = CliRunner().invoke(app, ["push", str(tmp_path), "org/name", "--finetuned", "cola", "--seed", "1"])
    assert "Pushing cola, fine-tuned from two_shot, seed 1: matthews_correlation 0.3100" in result.output
    with pytest.raises(ValueError, match="offline mode is on"):
        raise result.exception


def test_a_task_that_nothing_was_fine_tuned_on_is_a_clear_error(hf_distill, tmp_path) -> None:
    finetuned_record().save(tmp_path)
    shown = hf_distill("push", tmp_path, "org/name", "--finetuned", "mrpc")
    assert shown.code == 2
    assert shown.err == "Error: parity-quickstart has no downstream task 'mrpc'; it has: cola.\n"


def test_help_shows_how_a_fine_tuned_model_is_pushed(hf_distill) -> None:
    shown = hf_distill("push", "--help")
    assert "hf-distill push runs/downstream-bert-python-docs org/mrpc-student --finetuned mrpc" in shown.lines
    assert "--finetuned" in shown.out and "BLOCK" in shown.out
