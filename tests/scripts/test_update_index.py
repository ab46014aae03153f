"""The index of recipes: every recipe once, with its paper, its result as the table below says, and its command."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from hf_distill.recipe.recipe import Recipe, available_recipes

ROOT = Path(__file__).resolve().parents[2]
NAMES = [info.name for info in available_recipes()]
PAGE = """<!-- index -->

| recipe | paper | student ← teacher | data | needs |
|---|---|---|---|---|
| [parity/quickstart](parity/quickstart.yaml) | [9.9](https://other) | MLP ← MLP | parity | CPU |

<!-- end of index -->

<!-- results: parity-quickstart -->

| curriculum | seeds | final accuracy | time of a student |
| :--- | ---: | ---: | ---: |
| two_shot | 3 | 1.0000 [0.9990 – 1.0000] | 2 s |
| one_shot | 3 | 0.6000 [0.5000 – 0.7000] | 2 s |
| labels | 3 | 0.5000 [0.4000 – 0.6000] | 2 s |

<!-- end -->
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("update_index", ROOT / "scripts" / "update_index.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_recipe_is_in_the_index_once_and_what_was_written_stays(script):
    page = script.indexed(PAGE)
    rows = script.rows_of(page.partition(script.END)[0])
    assert sorted(rows) == sorted(NAMES)
    assert page.count("](parity/quickstart.yaml)") == 1
    kept = rows["parity/quickstart"]
    assert kept[2:5] == ["MLP ← MLP", "parity", "CPU"]
    assert kept[1] == "[2410.05464](https://arxiv.org/abs/2410.05464), [9.9](https://other)"
    assert kept[5] == "accuracy: two_shot 1.0000 [0.9990 – 1.0000], labels 0.5000 [0.4000 – 0.6000]"
    assert kept[6] == "`hf-distill run parity/quickstart`"
    assert page.endswith(PAGE.partition(script.END)[2])


@pytest.mark.slow
def test_written_twice_it_is_the_same(script):
    once = script.indexed(PAGE)
    assert script.indexed(once) == once


@pytest.mark.slow
def test_a_remark_in_the_place_of_a_result_stays_until_there_is_one(script):
    once = script.indexed(PAGE)
    row = next(line for line in once.splitlines() if "](parity/gpt2.yaml)" in line)
    assert f"| {script.NO_TABLE} |" in row
    remarked = once.replace(row, row.replace(script.NO_TABLE, "not run: no GPU"))
    assert script.indexed(remarked) == remarked
    table = "\n<!-- results: parity-gpt2 -->\n\n| curriculum | final x |\n|---|---|\n| a | 1 |\n\n<!-- end -->\n"
    assert "| x: a 1 |" in script.indexed(remarked + table)


def test_fine_tunings_are_results_too_and_the_teacher_is_none(script):
    table = "\n| curriculum | final f1 |\n|---|---|\n| teacher | .9 |\n| a | .8 |\n| from_scratch | .7 |\n\n"
    page = f"<!-- results: x -->\n{table}<!-- end --> <!-- results: x/mrpc -->\n{table}<!-- end -->"
    assert script.result_text("x", page) == "f1: a .8, from_scratch .7; mrpc, f1: a .8, from_scratch .7"


def test_rows_keep_their_order_and_new_ones_stand_by_their_family(script):
    order = script.in_order(["pcfg/cfg3f", "parity/quickstart"])
    assert order[0] == "pcfg/cfg3f"
    assert order[1].startswith("pcfg/")
    assert next(name for name in order if name.startswith("parity/")) == "parity/quickstart"
    assert sorted(order) == sorted(NAMES)


def test_models_and_data_are_said_in_a_few_words(script):
    recipe = Recipe.load("language_models/bert_python_docs")
    assert f"{script.student_text(recipe)} ← {script.teacher_text(recipe)}" == "bert 2×64 ← bert 4×128"
    assert script.data_text(recipe) == "masked_lm · python-docs"
    assert script.model_text({"pretrained": "org/name"}) == "`org/name`"
    assert script.teacher_text(Recipe.load("intra_distillation/parity_gpt2")) == "labels"
