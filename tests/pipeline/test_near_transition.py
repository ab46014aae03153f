"""A recipe that learns from the revisions around its teacher's transition only."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_recipes import parity_recipe

from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe


def recipe_from(finished: Any, folder: Path, **selection: object) -> Recipe:
    source = {"revisions": str(finished.root / "teacher"), **selection}
    curriculum = {"name": "n_shot", "steps": 10}
    return parity_recipe(folder, teacher={"source": source}, compare=None, curriculum=curriculum)


def test_only_revisions_near_the_transition_teach(finished: Any, tmp_path: Path) -> None:
    record = run_recipe(recipe_from(finished, tmp_path / "run", near_transition=1))
    scored = [score["name"] for score in record.teacher["scores"]]
    kept = [revision["name"] for revision in record.teacher["revisions"]]
    assert len(scored) > 3
    assert kept == [record.teacher["chosen"], scored[-1]]
    assert [stage.revision for stage in record.runs[0].stages] == kept
    assert record.teacher["source"] == str(finished.root / "teacher")


def test_transition_that_cannot_be_found_is_told_and_not_passed_over(finished: Any, tmp_path: Path) -> None:
    for step in (1, 2):
        shutil.copytree(finished.root / "teacher" / "checkpoint-20", tmp_path / "flat" / f"checkpoint-{step}")
    recipe = recipe_from(finished, tmp_path / "run", revisions=str(tmp_path / "flat"), near_transition=1)
    with pytest.raises(ValueError, match=r"teacher\.source\.near_transition: the teacher's loss .* no clear drop"):
        run_recipe(recipe)


@pytest.mark.slow
def test_one_revision_is_near_enough(finished: Any, tmp_path: Path) -> None:
    recipe = recipe_from(finished, tmp_path / "run", near_transition=3, first="checkpoint-160")
    record = run_recipe(recipe)
    assert [revision["step"] for revision in record.teacher["revisions"]] == [160]
