"""The quickstart as it is, run once for all tests that look at it, at its teacher, or need a teacher that learnt."""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import once_for_all

from hf_distill.pipeline.cells import task_of
from hf_distill.pipeline.run import run_recipe
from hf_distill.pipeline.teacher import train_teacher
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord


def quickstart(folder: Path) -> Recipe:
    """The recipe in a folder, without its page."""
    return Recipe.load("parity/quickstart", overrides=[f"output_dir={folder / 'run'}", "report.enabled=false"])


def quickstart_with_teacher(factory: pytest.TempPathFactory) -> Recipe:
    """The recipe, its teacher trained and no student yet needed."""

    def train(folder: Path) -> None:
        recipe = quickstart(folder)
        workspace = Workspace(folder / "run")
        workspace.claim(recipe, write=True)
        train_teacher(recipe, task_of(recipe), workspace)

    return quickstart(once_for_all(factory, "quickstart", train))


def quickstart_record(factory: pytest.TempPathFactory) -> RunRecord:
    """The record of the whole run."""
    recipe = quickstart_with_teacher(factory)
    once_for_all(factory, "quickstart-students", lambda _: run_recipe(recipe))
    return RunRecord.load(recipe.output_dir)
