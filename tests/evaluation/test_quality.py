"""Metrics are the trainer's, fidelity and calibration those of the rows that count, against numbers taken by hand."""

from __future__ import annotations

import pytest
import torch
from analysed_run import parity_run, text_run, write_run
from tables import TOKENIZER, write_sentences
from transformers import BertForSequenceClassification

from hf_distill.analysis.fidelity import calibration_info, fidelity_info
from hf_distill.evaluation.candidates import teachers_of
from hf_distill.evaluation.quality import quality_of


@pytest.mark.parametrize("task", ["parity", "masked_lm", "causal_lm"])
def test_numbers_are_those_of_the_rows_that_count(tmp_path, task):
    run = parity_run(tmp_path / "run") if task == "parity" else text_run(tmp_path / "run", task)
    teachers = teachers_of(run)
    model = next(run.students()).model
    found = quality_of(run, model, reference=teachers.reference)
    teacher = teachers.models["teacher"].model
    with torch.no_grad():
        rows = [(*run.rows(model, batch), run.rows(teacher, batch)[0]) for batch in run.batches("validation")]
    student_RV, labels_R, teacher_RV = (torch.cat(column) for column in zip(*rows, strict=True))
    expected = fidelity_info(student_RV, teacher_RV)
    assert found.fidelity is not None
    assert found.fidelity["rows"] == expected.rows
    for name in ("agreement", "forward_kl", "reverse_kl"):
        assert found.fidelity[name] == pytest.approx(getattr(expected, name), rel=1e-4), name
    calibration = calibration_info(student_RV, labels_R)
    assert found.calibration is not None
    assert found.calibration["error"] == pytest.approx(calibration.error, rel=1e-4)
    if run.task.metric != "perplexity":
        assert found.metrics[run.task.metric] == pytest.approx(calibration.accuracy, rel=1e-6)
    assert not [key for key in found.metrics if "runtime" in key or "per_second" in key or key.startswith("eval_")]


def test_the_reference_itself_has_no_fidelity(tmp_path):
    run = parity_run(tmp_path / "run")
    teachers = teachers_of(run)
    teachers.models["teacher"].enter(0)
    found = quality_of(run, teachers.models["teacher"].model, reference=None)
    assert found.fidelity is None
    assert found.calibration is not None


def test_regressions_have_a_squared_error_instead_of_divergences(tmp_path):
    task = {"name": "noisy_sinusoid", "train_examples": 16, "validation_examples": 24}
    run = write_run(tmp_path / "run", task, {"architecture": "sinusoid_mlp", "config": {}}, steps=(10,))
    teachers = teachers_of(run)
    model = next(run.students()).model
    found = quality_of(run, model, reference=teachers.reference)
    with torch.no_grad():
        pairs = [
            (run.rows(model, batch)[0], run.rows(teachers.models["teacher"].model, batch)[0])
            for batch in run.batches("validation")
        ]
    squares = torch.cat([(one - other).square().flatten() for one, other in pairs])
    assert found.fidelity == {"rows": 24, "squared_error": pytest.approx(squares.mean().item(), rel=1e-5)}
    assert found.calibration is None


def test_a_model_is_left_as_it_was_found(tmp_path):
    run = parity_run(tmp_path / "run")
    model = next(run.students()).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quality_of(run, model, reference=teachers_of(run).reference)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not list((tmp_path / "run").glob("**/trainer_state.json"))


def test_a_teacher_that_orders_its_classes_differently_is_not_taken_for_a_bad_one(tmp_path):
    table = write_sentences(tmp_path / "table", ["text"], ["world", "sport", "business", "sport"] * 5)
    task = {"name": "text_classification", "data": {"path": str(table)}, "tokenizer": TOKENIZER, "max_length": 16}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = {"architecture": "bert", "config": {**sizes, "initializer_range": 0.5}}
    run = write_run(tmp_path / "run", task, model, steps=(10,), seeds=(0,))
    place = run.workspace.teacher / "checkpoint-10"
    found = {}
    for order in ([0, 1, 2], [2, 0, 1]):
        teacher = BertForSequenceClassification.from_pretrained(place)
        names = [teacher.config.id2label[number] for number in order]
        teacher.config.id2label, teacher.config.label2id = dict(enumerate(names)), {n: i for i, n in enumerate(names)}
        for parameter in teacher.classifier.parameters():
            parameter.data = parameter.data[order]
        found[tuple(order)] = quality_of(run, teacher.eval(), reference=None)
        assert teacher(input_ids=torch.tensor([[5]])).logits.shape == (1, 3), "no hook is left"
    one, other = found.values()
    assert one.metrics == pytest.approx(other.metrics)
    assert one.calibration == pytest.approx(other.calibration)
