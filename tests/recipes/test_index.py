"""recipes/README.md is the index: every recipe with paper, models, data, result with spread, and command."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from hf_distill.recipe.recipe import Recipe, available_recipes

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "recipes" / "README.md"
NAMES = [info.name for info in available_recipes()]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("update_index", ROOT / "scripts" / "update_index.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def rows(script: ModuleType) -> dict[str, list[str]]:
    text = PAGE.read_text(encoding="utf-8")
    return script.rows_of(text.partition(script.BEGIN)[2].partition(script.END)[0])


def test_the_index_is_as_recipes_and_tables_say(script):
    text = PAGE.read_text(encoding="utf-8")
    assert script.BEGIN in text
    assert script.indexed(text) == text, "write it anew: python scripts/update_index.py recipes/README.md"


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_a_row_with_everything(script, rows, name):
    recipe, paper, models, data, _, result, command = rows[name]
    assert recipe == f"[{name}]({name}.yaml)"
    assert re.search(r"arxiv\.org/abs/\d{4}\.\d{4,5}", paper)
    assert "←" in models
    assert data
    assert result
    assert command == f"`hf-distill run {name}`"
    if Recipe.load(name).seeds[1:] and ": " in result:
        assert re.search(r"\[\S+ – \S+\]", result), "several seeds have a spread"


def test_every_table_on_the_page_is_of_a_recipe():
    marks = re.findall(r"<!-- (?:results|evaluation): ([\w/-]+) -->", PAGE.read_text(encoding="utf-8"))
    recipes = [Recipe.load(name) for name in NAMES]
    known = {recipe.name for recipe in recipes}
    known |= {f"{recipe.name}/{block.name}" for recipe in recipes for block in recipe.finetune}
    assert set(marks) <= known
