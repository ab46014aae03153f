"""`hf-distill analyze` hands its options on, shows the table and says where the files lie."""

from __future__ import annotations

import json
import math
import re

import pytest
from analysed_run import parity_run, text_run, write_run
from typer.testing import CliRunner

from hf_distill.cli.analyze import _number
from hf_distill.cli.main import app


def invoke(*arguments):
    return CliRunner().invoke(app, ["analyze", *map(str, arguments)], env={"COLUMNS": "120"})


@pytest.mark.slow
def test_influence_of_chosen_revisions(tmp_path):
    parity_run(tmp_path / "run")
    shown = invoke(
        "influence", tmp_path / "run", "--of", "teacher", "-r", "checkpoint-[23]0", "--examples", 64, "--order", 2
    )
    assert shown.exit_code == 0, shown.output
    assert re.findall(r"^checkpoint-\d+", shown.output, flags=re.MULTILINE) == ["checkpoint-20", "checkpoint-30"]
    assert "ratio" in shown.output
    assert "influence.png" in shown.output
    kept = json.loads((tmp_path / "run" / "analysis" / "influence.json").read_text())
    assert kept["settings"] == {"examples": 64, "order": 2}


@pytest.mark.slow
def test_fidelity_and_sensitivity_of_the_whole_run(tmp_path):
    parity_run(tmp_path / "run")
    for command, options in (("fidelity", ["--bins", 5]), ("sensitivity", ["--batches", 2])):
        shown = invoke(command, tmp_path / "run", *options)
        assert shown.exit_code == 0, shown.output
        assert "one_shot, seed 1" in shown.output
        assert (tmp_path / "run" / "analysis" / f"{command}.json").is_file()


def test_ngrams_at_chosen_positions(tmp_path):
    text_run(tmp_path / "run", "masked_lm", steps=(10,), students=())
    shown = invoke("ngrams", tmp_path / "run", "--position", 7, "--position", 9, "--examples", 8, "--hide-masked")
    assert shown.exit_code == 0, shown.output
    assert "robust 3" in shown.output
    settings = json.loads((tmp_path / "run" / "analysis" / "ngrams.json").read_text())["settings"]
    assert settings == {"examples": 8, "positions": [7, 9], "attend_masked": False}


def test_nonterminals_with_a_small_probe(tmp_path):
    task = {"name": "pcfg", "root": 13, "train_examples": 8, "validation_examples": 8}
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = {"architecture": "bert", "config": sizes}
    write_run(tmp_path / "run", task, model, steps=(10,), students=())
    options = ["--train-sentences", 64, "--examples", 32, "--batch-size", 16, "--heads", 2, "--position-size", 8]
    shown = invoke("nonterminals", tmp_path / "run", *options, "--epochs", 1, "--learning-rate", 0.02, "--seed", 3)
    assert shown.exit_code == 0, shown.output
    assert re.search(r"7–9 +11–12", shown.output)
    settings = json.loads((tmp_path / "run" / "analysis" / "nonterminals.json").read_text())["settings"]
    expected = {"heads": 2, "position_size": 8, "epochs": 1, "learning_rate": 0.02, "seed": 3, "batch_size": 16}
    assert settings == {**expected, "train_sentences": 64, "examples": 32}


@pytest.mark.slow
def test_no_name_is_cut_on_a_narrow_terminal(tmp_path):
    parity_run(tmp_path / "run")
    shown = CliRunner().invoke(app, ["analyze", "fidelity", str(tmp_path / "run")], env={"COLUMNS": "60"})
    assert shown.exit_code == 0, shown.output
    assert "…" not in shown.output
    assert re.findall(r" (checkpoint-\S+) *$", shown.output, flags=re.MULTILINE)
    assert "calibration" in shown.output


def test_views_beside_the_recipes(tmp_path):
    text_run(tmp_path / "run", "masked_lm", steps=(10,), students=())
    options = ["--view", "token_cutmix", "--steps", 4, "--block", 2, "--seed", 3]
    shown = invoke("views", tmp_path / "run", *options)
    assert shown.exit_code == 0, shown.output
    assert re.search(r"^token_cutmix\(alpha=1\) ", shown.output, flags=re.MULTILINE)
    assert "embedding_mixup" not in shown.output
    settings = json.loads((tmp_path / "run" / "analysis" / "views.json").read_text())["settings"]
    assert settings == {"steps": 4, "block": 2, "seed": 3}


def test_number_that_is_none_is_shown_as_a_dash(tmp_path):
    parity_run(tmp_path / "run")
    shown = invoke("fidelity", tmp_path / "run")
    assert re.search(r"^checkpoint-30 .*–", shown.output, flags=re.MULTILINE)
    assert "nan" not in shown.output


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"), (math.nan, "–"), (0.0, "0.0000"), (0.123456, "0.1235"), (4e-5, "4.0e-5"), (4714.5, "4714"),
        (math.inf, "inf"), (-123456.0, "-1.235e+05"),
    ],
)  # fmt: skip
def test_numbers_are_short_enough_for_a_table(value, expected):
    assert _number(value) == expected


def test_folder_without_a_run_is_the_users_error(tmp_path):
    shown = invoke("influence", tmp_path)
    assert isinstance(shown.exception, ValueError)
    with pytest.raises(ValueError, match="holds no run"):
        raise shown.exception


@pytest.mark.parametrize("command", ["influence", "fidelity", "sensitivity", "ngrams", "nonterminals", "views"])
def test_help_gives_an_example(command):
    shown = invoke(command, "--help")
    assert shown.exit_code == 0
    assert f"hf-distill analyze {command}" in shown.output
