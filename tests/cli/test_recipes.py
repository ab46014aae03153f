from __future__ import annotations

from hf_distill.recipe import available_recipes


def test_every_recipe_is_listed_with_what_it_does(hf_distill):
    shown = hf_distill("recipes")
    assert shown.code == 0
    assert shown.lines[-1] == "Run one with: hf-distill run NAME"
    for recipe in available_recipes():
        (line,) = [line for line in shown.lines if line.startswith(f"{recipe.name} ")]
        assert recipe.description.split()[0] in line
