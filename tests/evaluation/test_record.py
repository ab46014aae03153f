"""The record of an evaluation comes back equal, and a damaged or foreign one is refused by name."""

from __future__ import annotations

import csv
import io
import json
import math

import pytest
from evaluated import result, sample_evaluation

from hf_distill.evaluation.record import Evaluation, EvaluationSettings


def test_what_was_saved_comes_back_equal(tmp_path):
    evaluation = sample_evaluation()
    evaluation.save(tmp_path)
    assert Evaluation.load(tmp_path) == evaluation
    assert Evaluation.load(tmp_path / "elsewhere") is None


def test_a_metric_that_is_not_finite_is_null_for_every_reader(tmp_path):
    evaluation = sample_evaluation(models=[result("a", metrics={"accuracy": math.nan})])
    text = evaluation.save(tmp_path).read_text(encoding="utf-8")
    assert "NaN" not in text
    loaded = Evaluation.load(tmp_path)
    assert loaded is not None
    assert loaded.models[0].metrics == {"accuracy": None}


@pytest.mark.parametrize(
    ("text", "match"),
    [("{", "not readable JSON"), (json.dumps({"schema": 99}), "another version"), ("[]", "another version")],
)
def test_a_damaged_or_foreign_file_is_named(tmp_path, text, match):
    (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(ValueError, match=rf"evaluation\.json.*{match}"):
        Evaluation.load(tmp_path)


def test_csv_has_every_number_of_every_model():
    evaluation = sample_evaluation()
    evaluation.models[1].lm_eval = {"hellaswag": {"acc": 0.25}}
    rows = list(csv.DictReader(io.StringIO(evaluation.to_csv())))
    assert len(rows) == len(evaluation.models)
    student = rows[1]
    assert float(student["metric/accuracy"]) == pytest.approx(0.49)
    assert float(student["fidelity/forward_kl"]) == 0.1
    assert float(student["latency_seconds/16x32"]) == pytest.approx(0.008)
    assert float(student["examples_per_second/16x32"]) == pytest.approx(2000)
    assert student["lm_eval/hellaswag/acc"] == "0.25"
    assert rows[0]["fidelity/forward_kl"] == ""
    assert "fidelity" not in student


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"batch_sizes": (0,)}, "batch_sizes: expected a whole number from 1 on, got 0"),
        ({"batch_sizes": (2, 2)}, "different sizes"),
        ({"batch_sizes": ()}, "at least one"),
        ({"repeats": 0}, "repeats: .*got 0"),
        ({"length": 0}, "length: .*got 0"),
        ({"warmup": -1}, "warmup from 0 on"),
    ],
)
def test_impossible_settings_are_refused(settings, match):
    with pytest.raises(ValueError, match=match):
        EvaluationSettings(**settings)
