"""`hf-distill teachers publish` from the shell's side."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from hf_distill.cli.main import app


def test_help_shows_an_example_and_every_option() -> None:
    shown = CliRunner().invoke(app, ["teachers", "publish", "--help"], env={"COLUMNS": "200"})
    assert shown.exit_code == 0
    for expected in ("--as", "--every", "--private", "--license", "hf-distill teachers publish runs/"):
        assert expected in shown.output, expected


def test_a_folder_without_checkpoints_is_a_clear_error(tmp_path) -> None:
    result = CliRunner().invoke(app, ["teachers", "publish", str(tmp_path), "org/name"])
    with pytest.raises(ValueError, match="holds no checkpoint"):
        raise result.exception


def test_an_unknown_kind_of_revision_is_refused(tmp_path) -> None:
    result = CliRunner().invoke(app, ["teachers", "publish", str(tmp_path), "org/name", "--as", "fork"])
    assert result.exit_code == 2
