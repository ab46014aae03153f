"""All the way round with images: a teacher's history on the Hub teaches a student, which any pipeline can then run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_client import Caller
from hub_push import publish, push
from hub_server import HubServer
from PIL import Image
from sklearn.datasets import load_digits
from tiny_recipes import SGD, parity_mapping

pytestmark = [pytest.mark.hub, pytest.mark.slow]

# In a process where hf_distill cannot be imported: the pushed folder needs transformers alone.
CLASSIFY_WITHOUT_US = """
import json, sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_distill":
            raise ImportError("hf_distill is not installed here")

sys.meta_path.insert(0, Blocked())
from transformers import pipeline

print(json.dumps(pipeline("image-classification", model=sys.argv[1], device="cpu")(sys.argv[2], top_k=10)))
"""


def digits_mapping(folder: Path, **changes: Any) -> dict[str, Any]:
    """A recipe on a few digits, with ResNets of two stages."""
    training = {**SGD, "learning_rate": 0.1, "max_steps": 8, "eval_steps": 4}
    sizes = {"hidden_sizes": [4, 8], "depths": [1, 1]}
    fields = {
        "task": {"name": "image_classification", "train_examples": 200},
        "teacher": {
            "train": {"model": {"architecture": "resnet", "config": sizes}, "training": training | {"save_steps": 4}}
        },
        "student": {"model": {"architecture": "resnet", "config": sizes}},
        "compare": {"one_shot": {"name": "one_shot", "temperature": 4.0}},
        "level": None,
        "training": training,
    }
    return parity_mapping(folder, **{**fields, **changes})


def run(mapping: dict[str, Any]) -> dict[str, Any]:
    """Run a recipe."""
    from hf_distill.pipeline.run import run_recipe
    from hf_distill.recipe.recipe import Recipe

    return run_recipe(Recipe.from_dict(mapping), command=["hf-distill", "run", "tiny.yaml"]).to_dict()


def own_answer(folder: Path, file: Path) -> dict[str, float]:
    """The probabilities of a student that lies on this machine, by the task's own preprocessing."""
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    inputs = AutoImageProcessor.from_pretrained(folder)(Image.open(file), return_tensors="pt")
    with torch.no_grad():
        probabilities = model(**inputs).logits.softmax(-1)[0].tolist()
    return {model.config.id2label[number]: value for number, value in enumerate(probabilities)}


def test_an_image_teacher_on_the_hub_and_a_pushed_student_work_without_this_package(
    server: HubServer, client: Caller, repo_id: str, tmp_path: Path, token: str
) -> None:
    client(run, digits_mapping(tmp_path / "first"))
    published = client(publish, tmp_path / "first", repo_id)
    assert published.error is None
    taught = {"two_shot": {"name": "two_shot", "revision": "step-4", "steps": 3}}
    second = digits_mapping(tmp_path / "second", teacher={"source": f"{repo_id}@step-*"}, compare=taught)
    record = client(run, second)
    assert {entry["commit"] for entry in record["teacher"]["revisions"]} == {r.commit for r in published.result[:-1]}
    student = f"{repo_id}-student"
    pushed = client(push, tmp_path / "second", student)
    assert pushed.error is None
    files = server.store.get(student).resolve("main").files
    card = server.store.blobs[files["README.md"]].decode()
    assert "pipeline_tag: image-classification" in card
    assert f"source = {student!r}" in card
    assert "preprocessor_config.json" in files

    picture = tmp_path / "digit.png"
    Image.fromarray((load_digits().images[5] * 15).astype(np.uint8)).convert("RGB").save(picture)
    environment = {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(tmp_path / "fresh"),
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
        "PATH": "",
    }
    command = [sys.executable, "-c", CLASSIFY_WITHOUT_US, student, str(picture)]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {entry["label"]: entry["score"] for entry in json.loads(done.stdout.splitlines()[-1])}
    folder = tmp_path / "second" / record["runs"][0]["folder"]
    assert found == pytest.approx(own_answer(folder, picture), abs=1e-6)
