"""The figures that recipes/README.md shows for the digits: teachers help, by more than seeds differ."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """The recipe with the two curricula that tell whether a teacher helps: 80 seconds of CPU time."""
    folder: Path = tmp_path_factory.mktemp("digits") / "run"
    curricula = Recipe.load("images/digits_resnet").curricula()
    chosen = {label: curricula[label] for label in ("labels", "one_shot")}
    overrides = [f"output_dir={folder}", "report.enabled=false", f"compare={json.dumps(chosen)}"]
    return run_recipe(Recipe.load("images/digits_resnet", overrides=overrides))


@pytest.mark.slow
def test_the_teacher_does_not_learn_from_so_few_images(record: RunRecord) -> None:
    assert record.teacher["final_metrics"]["accuracy"] > 0.93


@pytest.mark.slow
def test_labels_teach_the_small_network_as_well_as_the_teacher_does(record: RunRecord) -> None:
    found = {
        label: [run.final_metrics["accuracy"] for run in record.runs if run.curriculum == label]
        for label in ("labels", "one_shot")
    }
    assert [len(values) for values in found.values()] == [3, 3]
    assert min(found["labels"]) > 0.88
    assert statistics.median(found["one_shot"]) - statistics.median(found["labels"]) > 0.008
