"""Recipes with several teachers on two processes: one training of each, on both ranks the same, recorded once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launching import once_for_all, run_two_ranks
from safetensors.torch import load_file
from teaching_recipes import TEACHERS, teaching_recipe

from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord

KINDS = ("takd", "ladder", "ensemble", "ema")
pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


def without_device(value):
    """Halve the batches for two ranks, and leave the device to the machine."""
    if isinstance(value, list):
        return [without_device(item) for item in value]
    if not isinstance(value, dict):
        return value
    halved = {key: item // 2 if key == "per_device_train_batch_size" else item for key, item in value.items()}
    return {key: without_device(item) for key, item in halved.items() if key != "use_cpu"}


def run_all(folder: Path) -> None:
    for kind in KINDS:
        mapping = without_device(json.loads(json.dumps(teaching_recipe(folder / kind, kind).to_dict())))
        Recipe.from_dict(mapping).save(folder / f"{kind}.yaml")
        run_two_ranks("-m", "hf_distill", "run", folder / f"{kind}.yaml")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two ranks have run every recipe."""
    return once_for_all(tmp_path_factory, "faculty", run_all)


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_end_where_one_process_does(ranks, tmp_path, kind):
    alone = run_recipe(teaching_recipe(tmp_path, kind))
    record = RunRecord.load(ranks / kind)
    assert record.environment["processes"] == 2
    assert len(record.teacher.get("models", [])) == len(alone.teacher.get("models", []))
    assert set(TEACHERS) >= set(KINDS)
    for run in alone.runs:
        ours, theirs = (load_file(root / run.folder / "model.safetensors") for root in (ranks / kind, tmp_path))
        for name, weights in theirs.items():
            assert ((ours[name] - weights).norm() / weights.norm()).item() < 1e-3, name
