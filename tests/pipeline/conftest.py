"""A finished run that tests of this folder look at, and copy before they change it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny_recipes import parity_recipe

from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord, StudentRun


class Finished(NamedTuple):
    """A recipe that was run, and its record."""

    recipe: Recipe
    record: RunRecord

    @property
    def root(self) -> Path:
        return Path(self.recipe.output_dir)

    def run(self, curriculum: str) -> StudentRun:
        return next(run for run in self.record.runs if run.curriculum == curriculum)

    def copy(self, folder: Path) -> Recipe:
        """Copy the run; return the recipe that continues the copy."""
        shutil.copytree(self.root, folder)
        return parity_recipe(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    recipe = parity_recipe(tmp_path_factory.mktemp("finished") / "run")
    return Finished(recipe, run_recipe(recipe, command=["hf-distill", "run", "tiny.yaml"]))
