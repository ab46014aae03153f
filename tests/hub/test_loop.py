"""All the way round: a teacher's history goes to the Hub, teaches a student from there, and that one goes back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from builders import examples, tiny_model, word_tokenizer
from hub_client import Caller
from hub_push import publish, push, push_finetuned
from hub_server import HubServer
from tiny_recipes import SGD, parity_mapping
from transformers import AutoModelForSequenceClassification

pytestmark = [pytest.mark.hub, pytest.mark.slow]

# In a process where hf_distill cannot be imported: the pushed folder needs transformers alone.
LOAD_WITHOUT_US = """
import json, sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_distill":
            raise ImportError("hf_distill is not installed here")

sys.meta_path.insert(0, Blocked())
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

repo_id = sys.argv[1]
model = AutoModelForSequenceClassification.from_pretrained(repo_id).eval()
ids = torch.tensor(json.loads(sys.argv[2]))
with torch.no_grad():
    logits = model(input_ids=ids).logits
answer = pipeline("text-classification", model=repo_id, tokenizer=AutoTokenizer.from_pretrained(repo_id))("w7 w9")
print(json.dumps({"logits": logits.tolist(), "pipeline": answer, "ours": "hf_distill" in sys.modules}))
"""


def train_teacher(folder: Path) -> None:
    """Train a small BERT classifier on labels, every checkpoint kept."""
    from builders import distill_trainer

    distill_trainer(
        folder,
        model=tiny_model("classification", seed=3),
        train_dataset=examples("classification", count=24),
        max_steps=12,
        save_strategy="steps",
        save_steps=4,
        learning_rate=0.05,
    ).train()


def distil(source: str, folder: Path) -> dict:
    """Distil from revisions of the Hub; leave the student with tokenizer and record in `folder`."""
    from builders import distill_trainer
    from transformers import default_data_collator

    trainer = distill_trainer(
        folder,
        teacher=source,
        curriculum={"name": "two_shot", "revision": "step-4", "steps": 3},
        train_dataset=examples("classification", count=24),
        eval_dataset=examples("classification", count=9, seed=9),
        processing_class=word_tokenizer(*(f"w{number}" for number in range(39))),
        data_collator=default_data_collator,
        eval_strategy="steps",
        eval_steps=3,
        max_steps=6,
    )
    trainer.train()
    trainer.save_model()
    return {"manifest": trainer.teacher.manifest(), "folder": str(folder)}


def test_teacher_to_hub_to_student_to_hub_to_a_clean_process_with_the_same_logits(
    server: HubServer, client: Caller, repo_id: str, tmp_path: Path, token: str
) -> None:
    client(train_teacher, tmp_path / "teacher")
    published = client(publish, tmp_path / "teacher", repo_id)
    assert published.error is None
    taught = client(distil, f"{repo_id}@step-*", tmp_path / "student")
    pins = {revision.name: revision.commit for revision in published.result[:-1]}
    assert {entry["revision"]: entry["commit"] for entry in taught["manifest"]} == pins
    student = f"{repo_id}-student"
    pushed = client(push, tmp_path / "student", student)
    assert pushed.error is None
    card = server.store.blobs[server.store.get(student).resolve("main").files["README.md"]].decode()
    assert pins["step-4"] in card and pins["step-12"] in card
    assert f"base_model:\n- {repo_id}\n" in card

    ids = torch.stack([item["input_ids"] for item in examples("classification", count=4, seed=21)])
    local = AutoModelForSequenceClassification.from_pretrained(tmp_path / "student").eval()
    with torch.no_grad():
        expected = local(input_ids=ids).logits
    found = load_in_a_clean_process(server, tmp_path / "fresh", token, student, ids)
    assert torch.equal(torch.tensor(found["logits"]), expected)
    assert found["ours"] is False
    assert found["pipeline"][0]["label"].startswith("LABEL_")


def load_in_a_clean_process(server: HubServer, home: Path, token: str, repo_id: str, ids: torch.Tensor) -> dict:
    environment = {
        "HF_ENDPOINT": server.url,
        "HF_HOME": str(home),
        "HF_TOKEN": token,
        "HF_HUB_DISABLE_XET": "1",
        "OMP_NUM_THREADS": "1",
        "PATH": "",
    }
    command = [sys.executable, "-c", LOAD_WITHOUT_US, repo_id, json.dumps(ids.tolist())]
    done = subprocess.run(command, env=environment, cwd=home.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def run(mapping: dict) -> dict:
    """Run a recipe."""
    from hf_distill.pipeline.run import run_recipe
    from hf_distill.recipe.recipe import Recipe

    record = run_recipe(Recipe.from_dict(mapping), command=["hf-distill", "run", "tiny.yaml"])
    return record.to_dict()


def test_recipe_with_a_teacher_on_the_hub_pins_its_commits_and_pushes_its_best_student(
    server: HubServer, client: Caller, repo_id: str, tmp_path: Path
) -> None:
    # The teacher of one recipe, with its folder as hf-distill leaves it, teaches the student of another.
    first = parity_mapping(tmp_path / "first", compare=None, curriculum={"name": "one_shot", "temperature": 0.0})
    client(run, first)
    published = client(publish, tmp_path / "first", repo_id, every=2)
    assert published.error is None
    second = parity_mapping(
        tmp_path / "second",
        teacher={"source": f"{repo_id}@step-*"},
        compare={"two_shot": {"name": "two_shot", "revision": "step-100", "steps": 20}, "labels": {"name": "labels"}},
        finetune=[{"name": "other", "task": {**first["task"], "k": 3}, "training": {**SGD, "max_steps": 20}}],
    )
    record = client(run, second)
    assert {entry["commit"] for entry in record["teacher"]["revisions"]} == {r.commit for r in published.result[:-1]}
    pushed = client(push, tmp_path / "second", f"{repo_id}-student")
    assert pushed.error is None
    files = server.store.get(f"{repo_id}-student").resolve("main").files
    card = server.store.blobs[files["README.md"]].decode()
    assert "learning_curves.png" in files
    assert "Needs hf_distill" in card and "import hf_distill.tasks" in card
    assert "latency of this student" in card
    label, place = {"curriculum": "two_shot", "seed": 0}, tmp_path / "second"
    beside = (place / "finetune/other/two_shot/seed-0/README.md").read_text()
    assert f"base_model:\n- {repo_id}\n" in beside, "this student has not been pushed yet"
    student = client(push, place, f"{repo_id}-two-shot", **label).result
    tuned = client(push_finetuned, place, f"{repo_id}-tuned", "other", **label)
    assert tuned.error is None
    card = server.store.blobs[server.store.get(f"{repo_id}-tuned").resolve("main").files["README.md"]].decode()
    assert f"base_model:\n- {repo_id}-two-shot\n" in card
    assert student.commit in card
    pins = {entry["name"]: entry["commit"] for entry in record["teacher"]["revisions"]}
    taught = next(run["stages"] for run in record["runs"] if run["curriculum"] == "two_shot")
    assert len(taught) == 2 and all(pins[stage["revision"]] in card for stage in taught)
