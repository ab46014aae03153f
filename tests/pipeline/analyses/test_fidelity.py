"""Students are compared with the right revisions on the rows that count."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from analysed_run import parity_run, text_run

from hf_distill.analysis.fidelity import calibration_info, fidelity_info
from hf_distill.pipeline.analyses.fidelity import analyze_fidelity
from hf_distill.tasks import ParityMlpForSequenceClassification


def load(run, folder):
    return ParityMlpForSequenceClassification.from_pretrained(run.workspace.root / folder).eval()


@torch.no_grad()
def test_numbers_are_those_of_the_models_on_the_held_out_data(tmp_path):
    run = parity_run(tmp_path / "run")
    answer = analyze_fidelity(run)
    kept = {model["name"]: model for model in json.loads(answer.files[0].read_text())["models"]}
    batch = torch.cat([b["inputs"] for b in run.batches("validation")])
    labels = torch.cat([b["labels"] for b in run.batches("validation")])
    student = load(run, "students/one_shot/seed-1")(inputs=batch).logits
    for place, step in enumerate((10, 20, 30)):
        teacher = load(run, f"teacher/checkpoint-{step}")(inputs=batch).logits
        found = kept["one_shot, seed 1"]["fidelity"][place]
        info = fidelity_info(student, teacher)
        assert found["revision"] == f"checkpoint-{step}"
        assert (found["agreement"], found["forward_kl"]) == pytest.approx((info.agreement, info.forward_kl), rel=1e-5)
    error = calibration_info(student, labels).error
    assert kept["one_shot, seed 1"]["calibration"]["error"] == pytest.approx(error, rel=1e-5)
    assert kept["checkpoint-10"]["fidelity"] == []
    assert [file.name for file in answer.files] == ["fidelity.json", "fidelity.png", "calibration.png"]


@pytest.mark.slow
def test_copy_of_a_revision_is_nearest_to_it(tmp_path):
    run = parity_run(tmp_path / "run")
    copy = run.workspace.student("labels", 0) / "model.safetensors"
    shutil.copy(run.workspace.teacher / "checkpoint-20" / "model.safetensors", copy)
    rows = {row[0]: row for row in analyze_fidelity(run).rows}
    assert rows["labels, seed 0"][-1] == "checkpoint-20"
    only = {row[0]: row for row in analyze_fidelity(run, revisions=["checkpoint-20"], examples=10).rows}
    assert only["labels, seed 0"][3:] == pytest.approx((1.0, 0.0, "checkpoint-20"), abs=1e-6)
    assert only["checkpoint-20"][3:] == (None, None, None)


@pytest.mark.slow
def test_language_models_are_compared_where_tokens_are_masked(tmp_path):
    run = text_run(tmp_path / "run", "masked_lm", steps=(10,), students=("one_shot",), seeds=(0,))
    answer = analyze_fidelity(run)
    (teacher, student) = json.loads(answer.files[0].read_text())["models"]
    masked = sum(int((batch["labels"] != -100).sum()) for batch in run.batches("validation"))
    assert student["fidelity"][0]["rows"] == student["calibration"]["rows"] == masked > 0
    assert teacher["calibration"]["rows"] == masked


def test_run_without_students_is_refused(tmp_path):
    run = parity_run(tmp_path / "run", students=())
    with pytest.raises(ValueError, match="no finished student"):
        analyze_fidelity(run)
