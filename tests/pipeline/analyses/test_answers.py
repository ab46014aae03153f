"""Tables name the models that were asked, and JSON keeps the names of the numbers."""

from __future__ import annotations

import json
import math

import pytest
from analysed_run import parity_run

from hf_distill.analysis.ngram_reliance import Distance, NgramReliance
from hf_distill.pipeline.analyses.answers import ask_each, places_to_ask, plain, plot_steps, save_answer
from hf_distill.pipeline.finished_run import RunModel


def revision(name, step):
    return RunModel(name, step, None, None, None)


def test_named_tuples_keep_their_names_in_json():
    info = NgramReliance(3, Distance(0.5, 0.25), Distance(0.0, 0.0), 7)
    robust = {"mean": 0.5, "median": 0.25}
    assert plain((info, 2)) == [{"n": 3, "robust": robust, "close": {"mean": 0.0, "median": 0.0}, "pairs": 7}, 2]


@pytest.mark.parametrize(
    ("steps", "expected"),
    [([10, 20], [10, 20]), ([10, 20, None], [10, 20, 21]), ([None, None, 5], [1, 2, 3]), ([None], [1])],
)
def test_final_model_without_a_step_is_drawn_after_the_others(steps, expected):
    assert plot_steps([revision(str(step), step) for step in steps]) == expected


def test_final_revision_is_enough_where_only_it_is_wanted(tmp_path):
    run = parity_run(tmp_path / "run")
    assert places_to_ask(run, "all", [], final_only=True) == [2]
    assert places_to_ask(run, "all", ["checkpoint-10"], final_only=True) == [0]
    assert places_to_ask(run, "all", []) == [0, 1, 2]
    assert places_to_ask(run, "students", []) == []


def test_run_without_teacher_still_has_students_to_ask(tmp_path):
    run = parity_run(tmp_path / "run", steps=())
    assert places_to_ask(run, "all", []) == []
    with pytest.raises(ValueError, match="has no teacher"):
        places_to_ask(run, "teacher", [])
    assert len(ask_each(run, "all", [], lambda model: model.name)) == 4


def test_models_are_dropped_once_they_are_measured(tmp_path):
    run = parity_run(tmp_path / "run")
    asked = ask_each(run, "all", [1], lambda model: model.model.config.width)
    assert [model.name for model, _ in asked] == [
        "checkpoint-20",
        *(f"{c}, seed {s}" for c in ("labels", "one_shot") for s in (0, 1)),
    ]
    assert all(model.model is None and info == 6 for model, info in asked)


def test_run_without_students_says_what_to_do(tmp_path):
    run = parity_run(tmp_path / "run", students=())
    with pytest.raises(ValueError, match="no finished student"):
        ask_each(run, "students", [], lambda model: None)


def test_numbers_that_are_not_finite_are_null_in_the_file(tmp_path):
    run = parity_run(tmp_path / "run", steps=(), students=())
    file = save_answer(run, "influence", [{"name": "a", "ratio": math.inf, "value": 1.5}], order=2)
    assert file == tmp_path / "run" / "analysis" / "influence.json"
    kept = json.loads(file.read_text())
    assert kept["settings"] == {"order": 2}
    assert kept["models"] == [{"name": "a", "ratio": None, "value": 1.5}]
