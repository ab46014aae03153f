"""Analyses that a recipe names are made once its students are finished, shown, and not made again for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_recipes import parity_recipe

from hf_distill.pipeline.after_run import ask_after_run
from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """A recipe that was run, two students of labels, with both analyses in its report."""
    recipe = parity_recipe(
        tmp_path_factory.mktemp("asked") / "run",
        teacher=None,
        compare={"plain": {"name": "labels"}, "again": {"name": "labels"}},
        report={"enabled": True, "analyses": ["evaluation", "sensitivity"]},
    )
    run_recipe(recipe)
    return recipe


@pytest.mark.slow
def test_the_page_of_the_run_shows_them(recipe):
    root = Path(recipe.output_dir)
    for name in ("evaluation.json", "evaluation.csv", "evaluation.md", "analysis/sensitivity.json", "pareto.png"):
        assert (root / name).is_file(), name
    html = (root / "report.html").read_text(encoding="utf-8")
    assert "Quality, fidelity and cost" in html
    assert "How evenly parameters contribute" in html


@pytest.mark.slow
def test_what_is_there_is_not_made_again(recipe):
    root = Path(recipe.output_dir)
    kept = [root / "analysis/sensitivity.json", root / "analysis/sensitivity.png"]
    before = [file.stat().st_mtime_ns for file in kept]
    ask_after_run(recipe)
    assert [file.stat().st_mtime_ns for file in kept] == before
    kept[0].unlink()
    ask_after_run(recipe)
    assert kept[0].is_file()


@pytest.mark.slow
def test_they_decide_nothing_about_the_students(recipe):
    without = Recipe.from_dict({**recipe.to_dict(), "report": {"enabled": False}})
    assert without.fingerprint() == recipe.fingerprint()


def test_a_recipe_that_names_none_is_not_looked_at(tmp_path):
    ask_after_run(parity_recipe(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_an_unknown_analysis_is_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"report\.analyses\[0\]: expected 'evaluation' or 'sensitivity'.*Did you mean"
    ):
        parity_recipe(tmp_path, report={"analyses": ["sensitivty"]})
