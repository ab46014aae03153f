from __future__ import annotations

from pathlib import Path

import pytest
from teacher_folders import cache_model, save_teacher, save_trainer_checkpoint
from tiny_recipes import parity_recipe, untaught
from typer.testing import CliRunner

from hf_distill.cli.main import app


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch):
    """Run `hf-distill teachers list` on a wide terminal; give its lines."""
    monkeypatch.setenv("COLUMNS", "300")

    def run(*arguments: str) -> list[str]:
        result = CliRunner().invoke(app, ["teachers", "list", *arguments], catch_exceptions=False)
        assert result.exit_code == 0
        return [" ".join(line.split()) for line in result.output.splitlines()]

    return run


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    for step in (10, 20, 30, 40):
        save_trainer_checkpoint(tmp_path / "teacher", step)
    return tmp_path / "teacher"


def test_list_shows_step_size_date_and_cache(shown, teacher: Path) -> None:
    lines = shown(str(teacher))
    assert lines[0] == "revision step commit date size"
    assert [line.split()[:2] for line in lines[1:5]] == [[f"checkpoint-{n}", str(n)] for n in (10, 20, 30, 40)]
    assert all(line.endswith(" kB") for line in lines[1:5])
    assert lines[5].startswith(f"4 revisions of {teacher}, ") and lines[5].endswith(" kB; all on disk")


def test_list_shows_what_a_selection_leaves(shown, teacher: Path) -> None:
    lines = shown(str(teacher), "--every", "2", "--first", "checkpoint-10")
    assert [line.split()[1] for line in lines[1:4]] == ["10", "30", "40"]
    lines = shown(str(teacher), "--first", "20", "--last", "30")
    assert [line.split()[1] for line in lines[1:3]] == ["20", "30"]


def test_list_works_on_the_cache_alone(shown, tmp_path: Path) -> None:
    cache_model(tmp_path / "cache", "org/model", {"step7": save_teacher(tmp_path / "saved")})
    lines = shown("org/model@step*", "--cache-dir", str(tmp_path / "cache"))
    assert lines[1].startswith("step7 7 ") and lines[1].endswith(" kB")
    assert lines[2].startswith("1 revision of org/model, ")


def test_mistake_is_told_with_what_there_is(shown, teacher: Path) -> None:
    with pytest.raises(ValueError, match="first: the teacher has no revision 'checkpoint-15'"):
        shown(str(teacher), "--first", "checkpoint-15")


def test_score_names_the_revision_in_the_sharp_drop_and_draws_it(hf_distill, tmp_path: Path) -> None:
    recipe = parity_recipe(tmp_path / "run").save(tmp_path / "tiny.yaml")
    shown = hf_distill("teachers", "score", recipe, "--set", "teacher.train.training.max_steps=80")
    assert shown.code == 0, shown.err
    assert [line.split()[1] for line in shown.lines[1:5]] == ["20", "40", "60", "80"]
    (marked,) = [line for line in shown.lines if "← in the sharp drop" in line]
    assert f"step {marked.split()[1]} " in shown.lines[-2]
    assert shown.lines[-1] == f"picture: {tmp_path / 'run' / 'teacher_scores.png'}"
    assert (tmp_path / "run" / "teacher_scores.png").is_file()


def test_score_of_a_recipe_without_a_teacher_says_what_to_give(hf_distill, tmp_path: Path) -> None:
    shown = hf_distill("teachers", "score", untaught(tmp_path / "run").save(tmp_path / "plain.yaml"))
    assert shown.code == 2
    assert "has no teacher to score; give it `teacher.source`" in shown.err
    assert "Traceback" not in shown.err


def test_list_of_nothing_ends_with_code_2(hf_distill, tmp_path: Path) -> None:
    shown = hf_distill("teachers", "list", tmp_path / "nowhere")
    assert shown.code == 2
    assert "is not there; expected a folder" in shown.err
    assert "Traceback" not in shown.err
