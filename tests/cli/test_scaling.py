"""`hf-distill plan --scaling` on the terminal."""

from __future__ import annotations

import json

import pytest
from tiny_recipes import parity_recipe
from typer.testing import CliRunner

from hf_distill.cli.main import app
from hf_distill.cli.scaling import copies_text, layout_of
from hf_distill.planning.model_states import StepSettings

ASKED = {"engine": "ddp", "teacher": None, "machine": "h100", "constants": [], "shared_cache": False}


@pytest.fixture
def recipe_file(tmp_path):
    return str(parity_recipe(tmp_path / "run").save(tmp_path / "tiny.yaml"))


def asked(*words: str):
    return CliRunner().invoke(app, ["plan", *words, "--scaling"], env={"COLUMNS": "200"})


def test_the_terminal_shows_the_same_run_and_one_that_grows(recipe_file):
    result = asked(recipe_file)
    assert result.exit_code == 0, result.output
    for text in ("ddp_bf16.yaml, teacher replicated", "the same run, ", "the batch grows", "1,024", "bound by"):
        assert text in result.output


@pytest.mark.parametrize("columns", ["80", "120"])
def test_no_row_is_wrapped_on_usual_terminals(recipe_file, columns):
    result = CliRunner().invoke(app, ["plan", recipe_file, "--scaling"], env={"COLUMNS": columns})
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= int(columns)
    table = lines[lines.index(next(line for line in lines if "the batch grows" in line)) :]
    names = [line.split(" ")[0] for line in table if line[:1].isdigit()]
    assert names == [f"{2**power:,}" for power in range(11)] * (2 if columns == "80" else 1)


def test_programs_read_every_point_with_its_bound(recipe_file):
    result = asked(recipe_file, "--json", "--engine", "zero1", "--constant", "per_node=4", "--machine", "a100")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert (found["layout"]["engine"], found["layout"]["machine"]["per_node"]) == ("zero1", 4)
    assert [point["gpus"] for point in found["growing_batch"]] == [2**power for power in range(11)]
    assert found["same_batch"][0]["efficiency"] == 1.0
    for point in found["growing_batch"]:
        parts = ("compute", "teacher", "interconnect", "revisions")
        assert point["step"] == pytest.approx(sum(point[part] for part in parts))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "fsdp"], "Did you mean `fsdp2`"),
        (["--machine", "h200"], "Did you mean `h100`"),
        (["--teacher", "lent"], "it is replicated, sharded, offloaded, cached"),
        (["--constant", "between"], "FIELD=NUMBER"),
        (["--engine", "zero3", "--teacher", "offloaded"], "use `sharded`"),
    ],
)
def test_a_wrong_option_is_told_before_any_data_is_read(words, message):
    result = asked("parity/quickstart", *words)
    assert isinstance(result.exception, ValueError)
    assert message in str(result.exception)


@pytest.mark.parametrize(
    "words", [["--engine", "fsdp2"], ["--teacher", "cached"], ["--constant", "hub=1e9"], ["--shared-cache"]]
)
def test_an_option_that_would_change_nothing_is_refused(words):
    result = CliRunner().invoke(app, ["plan", "parity/quickstart", *words])
    assert isinstance(result.exception, ValueError)
    assert f"{words[0]} is about many GPUs and changes nothing without --scaling" in str(result.exception)


def test_a_recipe_says_where_its_teacher_is(tmp_path):
    recipe = parity_recipe(tmp_path)
    assert layout_of(recipe, **ASKED).teacher == "replicated"
    recipe.teacher.sharded = True
    assert layout_of(recipe, **ASKED).teacher == "sharded"
    recipe.teacher.cached = True
    assert layout_of(recipe, **ASKED).teacher == "cached"
    assert layout_of(recipe, **{**ASKED, "teacher": "offloaded"}).teacher == "offloaded"
    recipe.teacher = None
    assert layout_of(recipe, **ASKED).teacher == "replicated"


@pytest.mark.parametrize(
    ("settings", "calls"),
    [
        ({}, "one a micro-batch"),
        ({"window": True}, "one a step"),
        ({"window": True, "window_examples": 32}, "one for 32 examples"),
    ],
)
def test_a_lent_teacher_says_how_often_it_is_copied(settings, calls):
    assert copies_text(StepSettings(**settings)).endswith(f"for each of its calls: {calls}")


def test_the_terminal_tells_of_copies_where_there_are_some(tmp_path):
    recipe = parity_recipe(tmp_path / "run")
    recipe.teacher.offload = True
    file = str(recipe.save(tmp_path / "tiny.yaml"))
    found = asked(file, "--set", "training.teacher_window=true", "--set", "training.gradient_accumulation_steps=4")
    assert "copied to the GPU for each of its calls: one a step" in found.output
    assert "copied" not in asked(file, "--teacher", "replicated").output
