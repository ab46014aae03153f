"""`hf-distill push` from the shell's side: which student goes is said before anything is sent."""

from __future__ import annotations

import pytest
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
