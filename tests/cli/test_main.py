from __future__ import annotations

import subprocess
import sys

import pytest
from tiny_recipes import untaught

from hf_distill import __version__


def test_the_version_is_that_of_the_package(hf_distill):
    assert hf_distill("--version").out == f"hf-distill {__version__}\n"


def test_help_names_every_command(hf_distill):
    shown = hf_distill("--help")
    assert shown.code == 0
    for command in ("run", "report", "recipes", "push", "teachers", "analyze"):
        assert f" {command} " in shown.out
    assert "list" in hf_distill("teachers", "--help").out
    assert "score" in hf_distill("teachers", "--help").out


@pytest.mark.parametrize(
    "arguments", [["runn"], ["run"], ["run", "x.yaml", "--sett", "a=1"], ["teachers", "lst"]], ids=str
)
def test_a_mistyped_command_ends_with_code_2(hf_distill, arguments):
    shown = hf_distill(*arguments)
    assert shown.code == 2
    assert "Usage" in shown.err
    assert "Traceback" not in shown.err


def test_an_error_of_the_users_is_one_line_without_a_traceback(hf_distill):
    shown = hf_distill("run", "quickstart")
    assert shown.code == 2
    assert shown.out == ""
    assert shown.err.startswith("Error: quickstart is neither a file nor the name of a recipe. Did you mean `parity/")
    assert "Traceback" not in shown.err


def test_verbose_shows_where_an_error_came_from(hf_distill):
    with pytest.raises(ValueError, match="neither a file nor the name of a recipe"):
        hf_distill("--verbose", "run", "quickstart")


def test_a_file_in_the_place_of_the_folder_is_an_error_and_no_traceback(hf_distill, tmp_path):
    (tmp_path / "run").write_text("a file")
    untaught(tmp_path / "run").save(tmp_path / "tiny.yaml")
    shown = hf_distill("run", tmp_path / "tiny.yaml")
    assert shown.code == 2
    assert shown.err.startswith("Error: ")
    assert (tmp_path / "run").read_text() == "a file"


def test_the_module_and_the_script_are_one_command(tmp_path, project_root):
    """`accelerate launch -m hf_distill` starts the module."""
    for arguments, code in ((["--version"], 0), (["run", "nothing.yaml"], 2)):
        done = subprocess.run(
            [sys.executable, "-m", "hf_distill", *arguments],
            cwd=project_root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code
        assert "Traceback" not in done.stderr
