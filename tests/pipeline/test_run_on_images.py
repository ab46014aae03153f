"""A recipe on images from end to end: teacher, students, report, cards, analyses, students that others can load."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import metadata_load
from PIL import Image
from sklearn.datasets import load_digits
from tiny_recipes import parity_recipe
from transformers import AutoModelForImageClassification, pipeline

from hf_distill.hub.publishable import model_files
from hf_distill.pipeline.analyses.fidelity import analyze_fidelity
from hf_distill.pipeline.analyses.sensitivity import analyze_sensitivity
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord

pytestmark = pytest.mark.slow

ADAM: dict[str, Any] = {
    "use_cpu": True,
    "optim": "adamw_torch",
    "learning_rate": 0.01,
    "per_device_train_batch_size": 25,
    "per_device_eval_batch_size": 400,
    "eval_strategy": "steps",
    "eval_steps": 20,
    "logging_steps": 10,
}
COMPARE = {
    "labels": {"name": "labels"},
    "one_shot": {"name": "one_shot", "temperature": 4.0},
    "two_shot": {"name": "two_shot", "revision": 20, "steps": 10},
    "extraction": {"name": "extraction", "share": 0.5, "calibration_examples": 64},
    "flow": {
        "name": "one_shot",
        "objectives": [{"name": "forward_kl"}, {"name": "pkt", "layers": "uniform", "weight": 0.1}],
    },
}


def digits_recipe(output_dir: Path, **changes: Any) -> Recipe:
    """Digits of 8 × 8 pixels, ResNets of two stages of one width each."""
    teacher = {"architecture": "resnet", "config": {"hidden_sizes": [16, 16], "depths": [1, 1]}}
    fields = {
        "name": "tiny-images",
        "task": {
            "name": "image_classification",
            "image_size": 16,
            "train_examples": 200,
            "crop_padding": 1,
            "copies": 4,
        },
        "teacher": {"train": {"model": teacher, "training": {**ADAM, "max_steps": 40, "save_steps": 20}}},
        "student": {"model": {"architecture": "resnet", "config": {"hidden_sizes": [8, 8], "depths": [1, 1]}}},
        "compare": COMPARE,
        "level": 0.5,
        "training": {**ADAM, "max_steps": 40},
        "report": {"enabled": True},
    }
    return parity_recipe(output_dir, **{**fields, **changes})


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    return run_recipe(
        digits_recipe(tmp_path_factory.mktemp("images") / "run"), command=["hf-distill", "run", "x.yaml"]
    )


@pytest.fixture
def root(record: RunRecord) -> Path:
    return Path(record.recipe["output_dir"])


def test_every_curriculum_runs_on_images(record: RunRecord, root: Path) -> None:
    assert [run.curriculum for run in record.runs] == list(COMPARE)
    for run in record.runs:
        assert set(run.final_metrics) == {"loss", "accuracy", "top_5_accuracy"}
        assert all(math.isfinite(value) for value in run.final_metrics.values())
    assert record.runs[0].final_metrics["accuracy"] > 0.2, "chance is 0.1"
    assert record.teacher["final_metrics"]["accuracy"] > 0.5
    stages = {run.curriculum: [stage.name for stage in run.stages] for run in record.runs}
    assert stages["extraction"][:2] == ["layer 1 ← 1", "layer 2 ← 2"]
    assert len(stages["two_shot"]) == 2
    assert (root / "report.html").is_file()


def test_costs_of_images_are_measured(record: RunRecord) -> None:
    for model in (record.student, record.teacher):
        assert model["latency"]["median_seconds"] > 0
        assert model["latency"]["examples"] == 1
        assert model["parameters"] > 0


def test_a_card_can_be_filed_and_its_code_runs(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = root / "students" / "one_shot" / "seed-0"
    metadata = metadata_load(folder / "README.md")
    assert metadata["pipeline_tag"] == "image-classification"
    assert {result["task"]["type"] for result in metadata["model-index"][0]["results"]} == {"image-classification"}
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(folder)
    Image.fromarray(load_digits().images[0].astype(np.uint8) * 15).save("image.png")
    exec(compile(code, "card", "exec"), {})
    assert capsys.readouterr().out.strip() in list("0123456789")


def test_a_saved_student_sees_the_images_of_training(record: RunRecord, root: Path) -> None:
    """The image processor beside it does what the task did: the same accuracy on the pictures themselves."""
    run = FinishedRun.open(root)
    held_out = run.batches("validation")
    folder = root / record.runs[0].folder
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = [name for batch in held_out for name in model(pixel_values=batch["pixel_values"]).logits.argmax(-1)]
    pixels = run.task._prepared.validation.pixels_NHWC[..., 0]
    classify = pipeline("image-classification", model=str(folder), device="cpu")
    found = [best["label"] for best, *_ in classify([Image.fromarray(image) for image in pixels[:40]], top_k=2)]
    assert found == [str(int(label)) for label in expected[:40]]


def test_the_image_processor_is_published(root: Path) -> None:
    for folder in (root / "students" / "labels" / "seed-0", root / "teacher" / "checkpoint-20"):
        assert {"preprocessor_config.json", "config.json", "model.safetensors"} <= set(model_files(folder))
    config = json.loads((root / "students" / "labels" / "seed-0" / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"]["3"] == "3"


def test_models_of_images_can_be_compared(root: Path) -> None:
    answer = analyze_fidelity(FinishedRun.open(root), examples=50)
    accuracies = {row[0]: row[1] for row in answer.rows}
    assert len(accuracies) == 1 + len(COMPARE)
    assert all(0 <= accuracy <= 1 for accuracy in accuracies.values())
    spread = analyze_sensitivity(FinishedRun.open(root), examples=50)
    assert len(spread.rows) >= len(COMPARE)
