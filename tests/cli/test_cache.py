from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_recipes import SGD, parity_recipe

from hf_distill.cache.format import Manifest, Settings, StoredFile
from hf_distill.cache.targets import Caching
from hf_distill.cli.cache import break_even

MODEL = {"architecture": "parity_mlp", "config": {"width": 16}}
SHORT = {**SGD, "max_steps": 40, "save_steps": 20, "eval_steps": 20}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return parity_recipe(
        tmp_path / "run",
        teacher={"train": {"model": MODEL, "training": {**SHORT, "save_only_model": True}}},
        student={"model": MODEL},
        level=None,
        compare={"labels": {"name": "labels"}, "two_shot": {"name": "two_shot", "revision": 20, "steps": 5}},
        training={**SHORT, "max_steps": 15, "eval_steps": 15, "save_steps": 15},
    ).save(tmp_path / "tiny.yaml")


@pytest.mark.slow
def test_a_recipe_is_cached_run_from_its_cache_and_compared(hf_distill: Any, recipe: Path, tmp_path: Path) -> None:
    written = hf_distill("cache", recipe)
    assert written.code == 0, written.err
    assert written.lines[0] == "revision examples rows size"
    assert [line.split()[0] for line in written.lines[1:3]] == ["checkpoint-20", "checkpoint-40"]
    assert re.match(r"codec: logits float32; 2\d bytes a row with its address, .* kB in all", written.lines[3])
    assert "went through the teacher now" in written.lines[4]
    assert "its students ask 750 times for" in written.lines[4]
    assert written.lines[5:] == [
        f"targets: {tmp_path / 'run' / 'targets'}",
        "read them with: --set teacher.cached=true",
    ]
    again = hf_distill("cache", "write", recipe)
    assert again.lines[4].startswith("0 examples went through the teacher now")

    ran = hf_distill("run", recipe, "--set", "teacher.cached=true")
    assert ran.code == 0, ran.err
    record = json.loads((tmp_path / "run" / "run_record.json").read_text())
    assert record["teacher"]["cache"]["codec"] == "logits float32"

    compared = hf_distill("cache", "report", tmp_path / "run" / "targets", "--batches", "1")
    assert compared.code == 0, compared.err
    assert compared.lines[0].startswith("codec bytes a row of dense KL, mean KL, worst total variation KL / byte")
    assert compared.lines[1].startswith("logits float32 8 200.00% 0.00e+00")
    assert compared.lines[1].endswith("←")
    figures = json.loads((tmp_path / "run" / "codec_report.json").read_text())
    assert [figure["bytes_per_row"] for figure in figures["figures"]] == [8, 4, 4]
    elsewhere = tmp_path / "figures.json"
    assert hf_distill("cache", "report", recipe, "--output", elsewhere, "--revision", "checkpoint-20").code == 0
    assert json.loads(elsewhere.read_text())["revision"] == "checkpoint-20"


def test_codec_and_folder_can_be_chosen(hf_distill: Any, recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept [1]"
    shown = hf_distill("cache", "--codec", "top_k", "--k", "1", "--dtype", "float32", recipe, "--output", folder)
    assert shown.code == 0, shown.err
    assert f"read them with: --set teacher.cached={folder}" in shown.out.splitlines()
    manifest = Manifest.load(folder)
    assert manifest.settings.codec == {"name": "top_k", "k": 1, "dtype": "float32"}
    assert not (tmp_path / "run" / "targets").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--codec", "logits", "--k", "3"], "codec.k: unknown key"),
        (["--dtype", "int8"], "codec.dtype: expected"),
        (["--set", "compare={own: {name: adaptive, metric: accuracy, level: 0.9}}"], "own: an adaptive curriculum"),
        (["--set", "compare={labels: {name: labels}}"], "learn from labels only"),
    ],
)
def test_what_cannot_be_cached_is_said_before_any_work(hf_distill: Any, recipe: Path, tmp_path, words, said) -> None:
    shown = hf_distill("cache", recipe, *words)
    assert shown.code == 2
    assert said in shown.err
    assert not list((tmp_path / "run").glob("teacher/checkpoint-*"))


def test_help_names_the_short_form(hf_distill: Any) -> None:
    shown = hf_distill("cache", "--help")
    assert shown.code == 0
    assert "hf-distill cache RECIPE is short for hf-distill cache write RECIPE" in " ".join(shown.out.split())
    for command in ("write", "report", "push"):
        assert hf_distill("cache", command, "--help").code == 0


def test_an_unknown_recipe_is_an_error_of_one_line(hf_distill: Any) -> None:
    shown = hf_distill("cache", "nothing/here")
    assert shown.code == 2
    assert "is neither a file nor the name of a recipe" in shown.err


def test_a_damaged_cache_is_not_pushed(hf_distill: Any, recipe: Path, tmp_path: Path) -> None:
    assert hf_distill("cache", recipe).code == 0
    shutil.rmtree(tmp_path / "run" / "targets" / "index")
    shown = hf_distill("cache", "push", tmp_path / "run" / "targets", "org/name")
    assert shown.code == 2
    assert "is missing" in shown.err


@pytest.mark.parametrize(
    ("examples", "visited", "said"),
    [
        (10, 40, "pays within the first run (75% of the teacher's work is saved)"),
        (40, 40, "pays from run 2 on"),
        (100, 40, "pays from run 3 on"),
        (0, 0, "ask nothing"),
    ],
)
def test_the_break_even_is_told_in_runs(examples: int, visited: int, said: str) -> None:
    shard = StoredFile(path="shards/a", sha256="", size=0, examples=examples)
    settings = Settings(codec={}, head="masked_lm", vocabulary=2, inputs=[])
    manifest = Manifest(settings=settings, revisions=[], files=[shard])
    done = Caching(manifest=manifest, forwarded=0, visited=visited, seconds=1.0)
    assert said in break_even(done)
