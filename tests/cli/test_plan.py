"""`hf-distill plan` on the terminal."""

from __future__ import annotations

import json

import pytest
from tiny_recipes import parity_recipe
from typer.testing import CliRunner

from hf_distill.cli.main import app
from hf_distill.cli.plan import duration_text


@pytest.fixture
def recipe_file(tmp_path):
    return str(parity_recipe(tmp_path / "run").save(tmp_path / "tiny.yaml"))


def test_a_plan_shows_models_memory_students_and_advice(recipe_file):
    result = CliRunner().invoke(app, ["plan", recipe_file])
    assert result.exit_code == 0, result.output
    for text in ("student", "teacher weights", "two_shot", "cached targets", "targets: ", "8 revisions"):
        assert text in result.output


def test_plain_data_can_be_read_by_programs(recipe_file):
    result = CliRunner().invoke(app, ["plan", recipe_file, "--no-probe", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["cells"][0]["label"] == "labels"
    assert found["cells"][0]["probe"] is None
    assert found["advice"]["source"] in ("live", "logits", "hidden", "top_k")


@pytest.mark.slow
def test_a_run_that_cannot_work_is_refused_after_its_table(recipe_file):
    """300,000 checkpoints of 80 MB are more than the disk holds."""
    result = CliRunner().invoke(
        app,
        [
            "plan",
            recipe_file,
            "--no-probe",
            "-s",
            "teacher.train.training.save_steps=1",
            "-s",
            "teacher.train.training.max_steps=300000",
            "-s",
            "teacher.train.model.config.width=400000",
        ],
    )
    assert isinstance(result.exception, ValueError)
    assert "disk" in str(result.exception)
    assert "save_steps" in str(result.exception)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 s"), (59.9, "59.9 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (7322, "2 h 2 min")],
)
def test_times_for_people(seconds, text):
    assert duration_text(seconds) == text
