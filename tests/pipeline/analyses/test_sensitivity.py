"""Every model is measured on the same batches, with the task's loss, and is pruned by its own sensitivity."""

from __future__ import annotations

import json

import pytest
import torch
from analysed_run import parity_run, text_run
from torch.nn.functional import cross_entropy

from hf_distill.analysis.sensitivity import parameter_sensitivity, sensitivity_info
from hf_distill.pipeline.analyses.sensitivity import analyze_sensitivity
from hf_distill.tasks import ParityMlpForSequenceClassification


def test_numbers_are_those_of_the_model_on_training_batches(tmp_path):
    run = parity_run(tmp_path / "run")
    answer = analyze_sensitivity(run, batches=3)
    kept = {model["name"]: model for model in json.loads(answer.files[0].read_text())["models"]}
    model = ParityMlpForSequenceClassification.from_pretrained(tmp_path / "run" / "students/labels/seed-1").eval()
    batches = run.batches("train", examples=12)
    loss = lambda batch: cross_entropy(model(inputs=batch["inputs"]).logits, batch["labels"])  # noqa: E731
    info = sensitivity_info(parameter_sensitivity(model, batches, loss))
    found = kept["labels, seed 1"]["sensitivity"]
    assert (found["batches"], found["parameters"]) == (3, info.parameters)
    assert found["raw"]["deviation"] == pytest.approx(info.raw.deviation, rel=1e-5)
    assert found["normalised"]["deviation"] == pytest.approx(info.normalised.deviation, rel=1e-5)


def test_pruning_begins_at_the_accuracy_of_the_whole_model(tmp_path):
    run = parity_run(tmp_path / "run")
    (row,) = analyze_sensitivity(run, which="teacher", batches=2).rows
    model = ParityMlpForSequenceClassification.from_pretrained(tmp_path / "run" / "teacher/checkpoint-30").eval()
    right = [(model(inputs=b["inputs"]).logits.argmax(-1) == b["labels"]) for b in run.batches("validation")]
    assert row[0] == "checkpoint-30"
    assert row[5] == pytest.approx(torch.cat(right).double().mean().item())


def test_pictures_show_the_first_seed_and_the_table_all(tmp_path):
    run = parity_run(tmp_path / "run")
    answer = analyze_sensitivity(run, batches=1, examples=8)
    assert len(answer.rows) == 5
    assert [file.name for file in answer.files] == ["sensitivity.json", "sensitivity.png", "pruning_curve.png"]
    assert all(file.is_file() for file in answer.files)


@pytest.mark.parametrize("task", ["masked_lm", "causal_lm"])
def test_language_models_have_a_sensitivity(tmp_path, task):
    run = text_run(tmp_path / "run", task, steps=(10,), students=(), seeds=(0,))
    (row,) = analyze_sensitivity(run, batches=2, examples=4).rows
    assert row[1] > 1.0
    assert 0 < row[4] <= 1
