"""The CIFAR recipes without the Hub: a table of noise with CIFAR's columns stands in for the download."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features
from datasets import Image as ImageFeature
from PIL import Image

from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe

COLUMNS = {"cifar10_resnet": {"label": 10}, "cifar100_resnet": {"fine_label": 100, "coarse_label": 20}}
ROWS = {"train": 200, "test": 100}


def stand_in(folder: Path, columns: dict[str, int]) -> dict[str, Any]:
    """Write both splits, every class in each, and return the keys of the recipe's `data` that read them."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    features = Features({"img": ImageFeature(), **{name: ClassLabel(num_classes=n) for name, n in columns.items()}})
    for split, count in ROWS.items():
        pixels = generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
        rows: dict[str, Any] = {"img": [Image.fromarray(image) for image in pixels]}
        rows |= {name: [row % classes for row in range(count)] for name, classes in columns.items()}
        Dataset.from_dict(rows, features=features).to_parquet(str(folder / f"{split}.parquet"))
    return {"hub": str(folder)}


def short(path: str) -> dict[str, Any]:
    """Four steps of eight images, with a checkpoint in the middle."""
    values = {"max_steps": 4, "eval_steps": 4, "logging_steps": 4, "warmup_steps": 1, "per_device_train_batch_size": 8}
    values |= {"dataloader_num_workers": 0, "use_cpu": True}
    values |= {"save_steps": 2} if path.startswith("teacher") else {}
    return {f"{path}.{key}": value for key, value in values.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", COLUMNS)
def test_recipes_run_on_the_data_that_they_were_written_for(name: str, tmp_path: Path) -> None:
    recipe = Recipe.load(f"images/{name}")
    data = {**recipe.task["data"], **stand_in(tmp_path / "cifar", COLUMNS[name])}
    changes = {"task.data": data, "task.image_size": 32, "seeds": [0], "report.enabled": False}
    changes |= {"teacher.train.model.config": {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}}
    changes |= {"output_dir": str(tmp_path / "run"), **short("training"), **short("teacher.train.training")}
    curricula = recipe.curricula()
    changes |= {f"compare.{label}.revision": 2 for label, spec in curricula.items() if spec["name"] == "two_shot"}
    changes |= {f"compare.{label}.interval": 1 for label, spec in curricula.items() if spec["name"] == "n_shot"}
    record = run_recipe(
        Recipe.load(f"images/{name}", overrides=[f"{key}={json.dumps(value)}" for key, value in changes.items()])
    )
    assert [run.curriculum for run in record.runs] == list(curricula)
    assert all("top_5_accuracy" in run.final_metrics for run in record.runs)
    classes = next(iter(COLUMNS[name].values()))
    assert len(record.task["description"]["labels"]) == classes
    assert record.task["description"]["validation_rows"] == ROWS["test"]
