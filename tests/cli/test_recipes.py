from __future__ import annotations

from hf_distill.recipe.recipe import available_recipes


def test_every_recipe_is_listed_with_what_it_does(hf_distill):
    shown = hf_distill("recipes")
    assert shown.code == 0
    assert shown.lines[-1] == "Run one with: hf-distill run NAME"
    for recipe in available_recipes():
        (line,) = [line for line in shown.lines if line.startswith(f"{recipe.name} ")]
        assert recipe.description.split()[0] in line


def test_names_can_be_copied_from_a_narrow_terminal(hf_distill, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    lines = hf_distill("recipes").lines
    assert all(any(line.startswith(f"{recipe.name} ") for line in lines) for recipe in available_recipes())
    assert not [line for line in lines if "…" in line]
