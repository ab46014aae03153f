"""An evaluation measures everybody once, keeps it, and measures again only what changed."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
from analysed_run import parity_run, text_run, write_run
from tables import TOKENIZER, write_pairs, write_tagged
from tiny_recipes import parity_recipe

from hf_distill.evaluation import evaluate
from hf_distill.evaluation.evaluate import evaluate_run
from hf_distill.evaluation.record import Evaluation, EvaluationSettings
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe

FAST = EvaluationSettings(batch_sizes=(1, 4), repeats=2, warmup=1)


@pytest.fixture
def measured(monkeypatch):
    """The keys of the models that are measured, in order."""
    found = []
    measure = evaluate._Evaluator._measure

    def noting(self, candidate):
        found.append(candidate.key)
        return measure(self, candidate)

    monkeypatch.setattr(evaluate._Evaluator, "_measure", noting)
    return found


def test_every_model_has_quality_fidelity_and_cost(tmp_path):
    run = parity_run(tmp_path / "run")
    found = evaluate_run(run, FAST)
    assert [model.key for model in found.models] == [
        "teacher",
        "students/labels/seed-0",
        "students/labels/seed-1",
        "students/one_shot/seed-0",
        "students/one_shot/seed-1",
    ]
    for model in found.models:
        assert 0 <= model.metrics["accuracy"] <= 1
        assert (model.fidelity is None) == (model.role == "teacher")
        assert [timing.batch_size for timing in found.timings_of(model)] == [1, 4]
        assert model.weight_bytes > 4 * model.parameters
    assert found.reference["name"] == "checkpoint-30"
    assert Evaluation.load(tmp_path / "run") == found


def test_asked_again_it_measures_nothing_and_says_the_same(tmp_path, measured):
    run = parity_run(tmp_path / "run")
    first = evaluate_run(run, FAST)
    measured.clear()
    assert evaluate_run(FinishedRun.open(tmp_path / "run"), FAST) == first
    assert measured == []


def test_a_broken_off_evaluation_goes_on_with_the_models_that_are_missing(tmp_path, measured):
    run = parity_run(tmp_path / "run")
    whole = evaluate_run(run, FAST)
    broken = dataclasses.replace(whole, models=whole.models[:2], timings=[])
    broken.save(tmp_path / "run")
    measured.clear()
    again = evaluate_run(run, FAST)
    assert measured == [model.key for model in whole.models[2:]]
    assert [model.metrics for model in again.models] == [model.metrics for model in whole.models]
    assert {timing.shape for timing in again.timings} == {model.shape for model in again.models}


def test_other_settings_time_again_and_keep_what_was_measured(tmp_path, measured):
    run = parity_run(tmp_path / "run")
    evaluate_run(run, FAST)
    measured.clear()
    again = evaluate_run(run, dataclasses.replace(FAST, batch_sizes=(2,)))
    assert measured == []
    assert {timing.batch_size for timing in again.timings} == {2}


def test_other_weights_under_the_same_name_are_measured_again(tmp_path, measured):
    run = parity_run(tmp_path / "run")
    before = evaluate_run(run, FAST)
    student = run.workspace.student("labels", 0) / "model.safetensors"
    shutil.copy(run.workspace.student("one_shot", 1) / "model.safetensors", student)
    measured.clear()
    after = evaluate_run(run, FAST)
    assert measured == ["students/labels/seed-0"]
    assert after.models[1].commit != before.models[1].commit
    assert after.models[1].metrics == after.models[4].metrics


def test_other_held_out_data_is_measured_anew(tmp_path, measured):
    run = parity_run(tmp_path / "run")
    evaluate_run(run, FAST)
    run = FinishedRun.open(tmp_path / "run")
    run.data.fingerprint = "other"
    measured.clear()
    evaluate_run(run, FAST)
    assert len(measured) == 5


def test_one_model_of_each_shape_is_timed(tmp_path):
    run = text_run(tmp_path / "run", "masked_lm")
    found = evaluate_run(run, dataclasses.replace(FAST, length=12))
    assert len({model.shape for model in found.models}) == 1
    assert [(timing.model, timing.length) for timing in found.timings] == [("teacher, checkpoint-30", 12)] * 2


def test_inputs_without_tokens_have_no_length_to_choose(tmp_path):
    run = parity_run(tmp_path / "run")
    with pytest.raises(ValueError, match="no length to choose"):
        evaluate_run(run, dataclasses.replace(FAST, length=12))
    assert Evaluation.load(tmp_path / "run").models


@pytest.mark.slow
def test_metrics_are_those_that_the_run_recorded(tmp_path):
    recipe = parity_recipe(tmp_path / "run", compare={"labels": {"name": "labels"}, "cold": {"name": "one_shot"}})
    record = run_recipe(recipe)
    found = evaluate_run(FinishedRun(recipe), FAST)
    for run in record.runs:
        model = found.find(f"students/{run.curriculum}/seed-{run.seed}")
        assert model.metrics["accuracy"] == pytest.approx(run.final_metrics["accuracy"])
        assert model.metrics["loss"] == pytest.approx(run.final_metrics["loss"], rel=1e-5)


def test_an_ensemble_is_compared_with_and_its_members_are_shown(tmp_path):
    run = parity_run(tmp_path / "run")
    sources = [str(tmp_path / "run" / "teacher" / f"checkpoint-{step}") for step in (10, 20)]
    mapping = run.recipe.to_dict() | {"teacher": {"ensemble": {"members": [{"source": one} for one in sources]}}}
    (tmp_path / "run" / "recipe.yaml").unlink()
    recipe = Recipe.from_dict(mapping)
    recipe.save(tmp_path / "run" / "recipe.yaml")
    found = evaluate_run(FinishedRun(recipe), FAST)
    assert [model.key for model in found.models][:2] == ["member-1", "member-2"]
    ensemble = found.find("ensemble")
    assert ensemble.parameters == sum(model.parameters for model in found.models[:2])
    assert found.models[0].fidelity is not None
    assert found.reference["commit"] == ensemble.commit


def test_harness_is_asked_of_causal_language_models_only(tmp_path):
    run = parity_run(tmp_path / "run")
    with pytest.raises(ValueError, match="for causal language models, this run's head is classification"):
        evaluate_run(run, FAST, lm_eval=["hellaswag"])
    assert Evaluation.load(tmp_path / "run") is None


@pytest.mark.slow
def test_a_quantised_teacher_has_the_metrics_that_the_run_recorded(tmp_path):
    recipe = parity_recipe(tmp_path / "run", compare={"cold": {"name": "one_shot"}}, seeds=[0])
    record = run_recipe(recipe)
    run = FinishedRun(recipe)
    evaluator = evaluate._Evaluator(run, FAST, ())
    teacher = evaluator.candidates[0]
    model = teacher.load()
    model.config.quantization_config = {"quant_method": "none"}
    result = evaluator._measure(dataclasses.replace(teacher, load=lambda: model))
    assert result.metrics == record.teacher["final_metrics"]
    assert result.fidelity is None
    assert result.parameters > 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["token_classification", "question_answering", "translation"])
def test_heads_with_answers_at_positions_are_measured_alike(tmp_path, name):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    fields = {"data": {"path": str(write_tagged(tmp_path / "tags"))}, "max_length": 24}
    if name == "question_answering":
        fields = {"max_length": 64, "doc_stride": 16, "max_question_length": 24}
        fields |= {"train_examples": 16, "validation_examples": 8}
    model = {"architecture": "bert", "config": {**sizes, "initializer_range": 0.5}}
    if name == "translation":
        fields = {"source_lang": "en", "target_lang": "de", "data": {"path": str(write_pairs(tmp_path / "pairs"))}}
        fields |= {"tokenizer": {"train": {"kind": "bpe", "vocab_size": 320}}}
        model = {
            "architecture": "t5",
            "config": {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 2, "num_layers": 1},
        }
    task = {"name": name, "tokenizer": TOKENIZER, **fields}
    run = write_run(tmp_path / "run", task, model, steps=(10,), students=("one_shot",), seeds=(0,))
    found = evaluate_run(run, dataclasses.replace(FAST, length=20))
    teacher, student = found.models
    assert run.task.metric in teacher.metrics
    assert student.fidelity["rows"] == student.calibration["rows"] > 0
    assert 0 <= student.fidelity["agreement"] <= 1
    assert {timing.length for timing in found.timings} == {20}
