from __future__ import annotations

import itertools
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


@pytest.mark.parametrize("words", [["--verbose", "run", "nothing"], ["run", "nothing", "-v"]], ids=" ".join)
def test_verbose_shows_where_an_error_came_from_wherever_it_is_written(hf_distill, words):
    with pytest.raises(ValueError, match="neither a file nor the name of a recipe"):
        hf_distill(*words)


def test_help_fills_the_lines_of_the_terminal(hf_distill, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = [line.strip() for line in hf_distill("push", "--help").out.splitlines()]
    begin = next(place for place, line in enumerate(lines) if line.startswith("The best student"))
    paragraph = lines[begin : lines.index("", begin)]
    assert len(paragraph) > 1
    for line, following in itertools.pairwise(paragraph):
        assert len(line) + 1 + len(following.split()[0]) > 98, "the next word had room in this line"


def test_every_example_of_the_help_is_a_line(hf_distill):
    shown = hf_distill("run", "--help").lines
    assert "hf-distill run my.yaml --set output_dir=runs/a --set training.learning_rate=5e-5" in shown
    assert not [line for line in shown if line.endswith("·")]


def test_arguments_are_named_as_their_help_speaks_of_them(hf_distill):
    for command, name in (("run", "RECIPE"), ("report", "RUN..."), ("push", "RUN")):
        assert f"Missing argument '{name}'" in hf_distill(command).err


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
