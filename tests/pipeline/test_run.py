from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from killed_pipeline import CountedParity, adam_recipe, run_until_batch
from launching import run_until_killed
from safetensors.torch import load_file
from tiny_recipes import SGD, parity_mapping, parity_recipe, text_recipe, untaught, write_text
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

from hf_distill.faults.bad_batch import BadBatch
from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord

PLAIN_TRANSFORMERS = """
import sys, json, transformers
found = []
for kind, folder in zip(sys.argv[1::2], sys.argv[2::2]):
    model, info = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    found.append([type(model).__name__, sorted(map(str, info["missing_keys"])), "hf_distill" in sys.modules])
print(json.dumps(found))
"""


def weights(root: Path, run: str) -> dict[str, torch.Tensor]:
    return load_file(root / run / "model.safetensors")


def same(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def results(record: RunRecord) -> list[dict[str, Any]]:
    """What must not depend on interruptions: everything but times and memory."""
    runs = [{key: value for key, value in asdict(run).items() if key != "costs"} for run in record.runs]
    for run in runs:
        run["training_log"] = [
            {
                key: value
                for key, value in entry.items()
                if not key.startswith("speed/") and not key.endswith("_seconds")
            }
            for entry in run["training_log"]
        ]
    return runs


# ---- what a run shows ----


def test_temperature_zero_follows_the_labels_evaluation_for_evaluation(finished):
    """The arg-max of a teacher without mistakes is the label, so both runs are one run."""
    assert finished.record.teacher["scores"][-1]["accuracy"] == 1.0
    labels, cold = finished.run("labels"), finished.run("cold")
    assert cold.history == labels.history
    assert len(labels.history) == 4
    assert same(weights(finished.root, cold.folder), weights(finished.root, labels.folder))
    assert not same(weights(finished.root, finished.run("two_shot").folder), weights(finished.root, labels.folder))


def test_two_shot_begins_with_the_revision_in_the_sharp_drop(finished):
    first, second = finished.run("two_shot").stages
    assert first.revision == finished.record.teacher["chosen"] != second.revision == "checkpoint-160"
    assert (first.start, first.end, second.start, second.end) == (0, 20, 20, 80)
    log = finished.run("two_shot").training_log
    assert [entry["teacher/step"] for entry in log][-1] == 160


# ---- what remains of it ----


def test_the_record_is_complete_and_the_one_on_disk(finished):
    record = finished.record
    assert RunRecord.load(finished.root).to_dict() == record.to_dict()
    assert record.finished >= record.started
    assert record.command == ["hf-distill", "run", "tiny.yaml"]
    assert record.recipe == finished.recipe.to_dict()
    assert record.task["description"]["train_rows"] == 10_000
    assert (record.task["metric"], record.task["level"], record.task["head"]) == ("accuracy", 0.99, "classification")
    assert [revision.step for revision in record.revisions()] == list(range(20, 161, 20))
    assert len({revision.commit for revision in record.revisions()}) == 8
    assert record.student["parameters"] == 10 * 32 + 32 + 32 * 2 + 2
    assert record.teacher["parameters"] == 10 * 64 + 64 + 64 * 2 + 2
    assert [row["curriculum"] for row in record.summary()] == ["labels", "cold", "two_shot"]
    assert "not installed" not in record.versions.values()


def test_every_student_has_weights_and_a_card_that_names_its_teacher(finished):
    revisions = {revision.name: revision.commit for revision in finished.record.revisions()}
    for run in finished.record.runs:
        card = (finished.root / run.folder / "README.md").read_text(encoding="utf-8")
        assert run.curriculum in card
        for stage in run.stages:
            assert stage.revision is None or revisions[stage.revision][7:19] in card
        assert (finished.root / run.folder / "config.json").is_file()


def test_no_pictures_are_drawn_where_none_are_wanted(finished):
    assert not [path for path in finished.root.iterdir() if path.suffix in (".html", ".png")]


@pytest.mark.slow
def test_students_of_text_recipes_load_without_hf_distill(tmp_path):
    text, arguments = write_text(tmp_path / "text"), []
    for task, kind in (("masked_lm", AutoModelForMaskedLM), ("causal_lm", AutoModelForCausalLM)):
        run = run_recipe(text_recipe(tmp_path / task, text, task)).runs[0]
        folder = tmp_path / task / run.folder
        arguments += [kind.__name__, str(folder)]
        tokenizer = AutoTokenizer.from_pretrained(folder)
        logits = kind.from_pretrained(folder)(**tokenizer("the small student reads", return_tensors="pt")).logits
        assert logits.shape[-1] == len(tokenizer)
        assert logits.isfinite().all()
    command = [sys.executable, "-c", PLAIN_TRANSFORMERS, *arguments]
    loaded = json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout)
    assert loaded == [["BertForMaskedLM", [], False], ["GPT2LMHeadModel", [], False]]


@pytest.mark.slow
def test_a_gpt2_student_of_parity_loads_with_plain_transformers(tmp_path):
    gpt2 = {"architecture": "gpt2", "config": {"n_head": 2, "n_layer": 1}}
    training = {**SGD, "max_steps": 4, "eval_steps": 2, "save_steps": 2, "per_device_train_batch_size": 8}
    recipe = parity_recipe(
        tmp_path,
        task={"name": "parity", "d": 6, "k": 2, "inputs": "tokens", "validation_examples": 32},
        teacher={"train": {"model": gpt2, "training": training}},
        student={"model": gpt2},
        compare={"one_shot": {"name": "one_shot"}},
        training=training,
    )
    run = run_recipe(recipe).runs[0]
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / run.folder, output_loading_info=True)
    assert type(model).__name__ == "GPT2ForSequenceClassification"
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


@pytest.mark.parametrize("mode", ["stop", "skip"])
def test_a_run_that_diverges_stops_and_names_the_step(tmp_path, mode):
    """The Trainer's default would go on, and log a loss of 0."""
    wild = {**SGD, "learning_rate": 1e30, "max_steps": 40, "save_steps": 40, "on_bad_batch": mode}
    with pytest.raises(BadBatch, match="step 1: " if mode == "stop" else "10th step in a row"):
        run_recipe(untaught(tmp_path, training=wild, report={"enabled": True}))
    assert not list(tmp_path.glob("students/*/*/student_run.json"))


# ---- running it again ----


def test_a_second_run_trains_nothing_again(tmp_path, finished):
    recipe = finished.copy(tmp_path / "run")
    before = {name: times(tmp_path / "run" / name) for name in ("teacher", "cache")}
    trained = [path for path in (tmp_path / "run" / "students").rglob("*") if path.name != "README.md"]
    before_students = {path: path.stat().st_mtime_ns for path in trained if path.is_file()}
    again = run_recipe(recipe)
    assert results(again) == results(finished.record)
    assert [run.costs for run in again.runs] == [run.costs for run in finished.record.runs]
    assert {name: times(tmp_path / "run" / name) for name in before} == before
    assert {path: path.stat().st_mtime_ns for path in before_students} == before_students
    assert again.teacher["chosen"] == finished.record.teacher["chosen"]


def test_only_what_is_missing_is_trained(tmp_path, finished):
    recipe = finished.copy(tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / finished.run("cold").folder)
    others = {
        run: times(tmp_path / "run" / finished.run(run).folder / "checkpoint-80") for run in ("labels", "two_shot")
    }
    again = run_recipe(recipe)
    assert results(again) == results(finished.record)
    assert {run: times(tmp_path / "run" / finished.run(run).folder / "checkpoint-80") for run in others} == others
    assert same(
        weights(tmp_path / "run", finished.run("cold").folder), weights(finished.root, finished.run("cold").folder)
    )


@pytest.mark.slow
def test_a_seed_more_trains_its_students_only(tmp_path, finished):
    mapping = finished.copy(tmp_path / "run").to_dict()
    mapping["compare"] = {**mapping["compare"], "three": {"name": "one_shot", "training": {"max_steps": 3}}}
    folders = {run: tmp_path / "run" / finished.run(run).folder / "checkpoint-80" for run in ("labels", "two_shot")}
    kept = {run: times(folder) for run, folder in folders.items()}
    again = run_recipe(Recipe.from_dict({**mapping, "seeds": [*mapping["seeds"], 9]}))
    students = [(run.curriculum, run.seed) for run in again.runs]
    assert len(set(students)) == 8
    assert {seed for _, seed in students} == {*mapping["seeds"], 9}
    assert {run: times(folder) for run, folder in folders.items()} == kept
    assert [result for result in results(again) if result in results(finished.record)] == results(finished.record)


def test_no_resume_refuses_what_was_trained_and_takes_what_was_not(tmp_path, finished):
    recipe = finished.copy(tmp_path / "run")
    before = times(tmp_path / "run")
    with pytest.raises(ValueError, match="holds this recipe's run already; resume it or choose another output_dir"):
        run_recipe(recipe, resume=False)
    assert times(tmp_path / "run") == before
    fresh = untaught(tmp_path / "new", training={**SGD, "max_steps": 4, "eval_steps": 4, "save_steps": 4})
    assert len(run_recipe(fresh, resume=False).runs) == 1


@pytest.mark.slow
def test_a_teacher_that_moved_under_finished_students_is_refused(tmp_path, finished):
    """Otherwise the record would name revisions that the students never saw."""
    shutil.copytree(finished.root / "teacher", tmp_path / "teacher")
    mapping = parity_mapping(tmp_path / "run", compare={"one_shot": {"name": "one_shot"}})
    mapping["teacher"] = {"source": str(tmp_path / "teacher")}
    first = run_recipe(Recipe.from_dict(mapping))
    assert results(run_recipe(Recipe.from_dict(mapping))) == results(first)
    shutil.copy(tmp_path / "teacher" / "checkpoint-20" / "model.safetensors", tmp_path / "teacher" / "checkpoint-160")
    before = times(tmp_path / "run")
    with pytest.raises(ValueError, match=r"teacher has changed .* learned from it: it had checkpoint-160 \(sha256:"):
        run_recipe(Recipe.from_dict(mapping))
    assert times(tmp_path / "run") == before


@pytest.mark.slow
def test_a_pipeline_killed_at_any_point_ends_as_the_undisturbed_one(tmp_path):
    CountedParity.kill_at, CountedParity.batches = None, 0
    whole = run_recipe(adam_recipe(tmp_path / "whole"))
    batches = CountedParity.batches
    # Teacher and scores take 0.59 of the batches; the second session has at least 0.2 of them left.
    first, second = (random.SystemRandom().uniform(*limits) for limits in ((0.6, 0.8), (0.02, 0.18)))
    for share in (first, second):
        run_until_killed(run_until_batch, tmp_path / "cut", int(share * batches))
        assert any((tmp_path / "cut" / "students").iterdir())
    resumed = run_recipe(adam_recipe(tmp_path / "cut"))
    assert results(resumed) == results(whole), f"killed at shares {first} and {second} of {batches} batches"
    for run in whole.runs:
        assert same(weights(tmp_path / "cut", run.folder), weights(tmp_path / "whole", run.folder)), (first, second)
