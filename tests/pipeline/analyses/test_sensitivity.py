"""Every model is measured on the same batches, with the task's loss, and is pruned by its own sensitivity."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from analysed_run import parity_run, text_run, write_run
from tables import write_pairs, write_sentences, write_tagged
from tiny_recipes import SGD, untaught, write_text
from torch.nn.functional import cross_entropy

from hf_distill.analysis.sensitivity import parameter_sensitivity, sensitivity_info
from hf_distill.pipeline.analyses.sensitivity import analyze_sensitivity, curve_metric
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.pipeline.run import run_recipe
from hf_distill.tasks import ParityMlpForSequenceClassification
from hf_distill.tasks.glue_subsets import glue_subsets


@pytest.mark.slow
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


@pytest.mark.slow
def test_pruning_begins_at_the_accuracy_of_the_whole_model(tmp_path):
    run = parity_run(tmp_path / "run")
    (row,) = analyze_sensitivity(run, which="teacher", batches=2).rows
    model = ParityMlpForSequenceClassification.from_pretrained(tmp_path / "run" / "teacher/checkpoint-30").eval()
    right = [(model(inputs=b["inputs"]).logits.argmax(-1) == b["labels"]) for b in run.batches("validation")]
    assert row[0] == "checkpoint-30"
    assert row[5] == pytest.approx(torch.cat(right).double().mean().item())


@pytest.mark.slow
def test_pictures_show_the_first_seed_and_the_table_all(tmp_path):
    run = parity_run(tmp_path / "run")
    answer = analyze_sensitivity(run, batches=1, examples=8)
    assert len(answer.rows) == 5
    assert [file.name for file in answer.files] == ["sensitivity.json", "sensitivity.png", "pruning_curve.png"]
    assert all(file.is_file() for file in answer.files)


BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
BERT |= {"initializer_range": 0.5}
MARIAN = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
MARIAN |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
SHORT = {"max_source_length": 32, "max_target_length": 32}
KINDS = {
    "cola": ({"name": "glue", "subset": "cola"}, "matthews_correlation"),
    "stsb": ({"name": "glue", "subset": "stsb"}, "pearson"),
    "token_classification": ({"name": "token_classification"}, "f1"),
    "question_answering": (
        {
            "name": "question_answering",
            "data": {"generated": {"rows": 24, "validation_rows": 12}},
            "max_length": 64,
            "doc_stride": 16,
            "max_question_length": 16,
        },
        "f1",
    ),
    "translation": ({"name": "translation", "source_lang": "en", "target_lang": "de", **SHORT}, None),
    "causal_lm": ({"name": "causal_lm", "max_length": 16}, "next_token_accuracy"),
}
MODELS = {
    "translation": {"architecture": "marian", "config": {**MARIAN, "max_position_embeddings": 32}},
    "causal_lm": {"architecture": "gpt2", "config": {"n_embd": 16, "n_layer": 1, "n_head": 2}},
}


def data_of(kind: str, folder: Path) -> dict[str, Any]:
    """What a kind's task reads, and how."""
    words = {"kind": "bpe" if kind in ("causal_lm", "translation") else "wordpiece", "vocab_size": 320}
    if kind == "causal_lm":
        place = {"data": {"path": str(write_text(folder))}, "validation_fraction": 0.2}
    elif kind == "question_answering":
        place = {}
    elif kind == "translation":
        place = {"data": {"path": str(write_pairs(folder))}}
    elif kind == "token_classification":
        place = {"data": {"path": str(write_tagged(folder, count=24))}}
    else:
        subset = glue_subsets()[kind]
        labels = [row % len(subset.classes) if subset.classes else (row % 11) / 2 for row in range(24)]
        place = {"data": {"path": str(write_sentences(folder, subset.texts, labels))}}
    return {**place, "tokenizer": {"train": words}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_curve_begins_at_the_held_out_metric_of_the_run(tmp_path, kind):
    task, metric = KINDS[kind]
    training = {**SGD, "optim": "adamw_torch", "learning_rate": 3e-3, "max_steps": 2, "eval_steps": 2}
    recipe = untaught(
        tmp_path / "run",
        task={**task, **data_of(kind, tmp_path / "data")},
        student={"model": MODELS.get(kind, {"architecture": "bert", "config": BERT})},
        training={**training, "per_device_train_batch_size": 8, "per_device_eval_batch_size": 8},
        level=None,
    )
    (run,) = run_recipe(recipe).runs
    answer = analyze_sensitivity(FinishedRun(recipe), batches=2)
    kept = json.loads(answer.files[0].read_text())
    found = kept["models"][0]["pruning"]["values"][0]
    if metric is None:
        assert kept["settings"]["metric"] == "token accuracy"
        assert "in the place of bleu" in answer.note
        assert 0 <= found <= 1
        return
    assert kept["settings"]["metric"] == metric == answer.columns[5]
    assert found not in (0.0, 1.0), "every model would have that"
    assert found == pytest.approx(run.final_metrics[metric], rel=1e-6, abs=1e-12)


def test_answers_of_some_windows_are_refused_before_a_model_is_measured(tmp_path):
    task, _ = KINDS["question_answering"]
    model = {"architecture": "bert", "config": BERT}
    run = write_run(
        tmp_path / "run", {**task, **data_of("question_answering", tmp_path)}, model, students=(), seeds=(0,)
    )
    with pytest.raises(ValueError, match="f1 of answers needs all"):
        analyze_sensitivity(run, batches=1, examples=3)


@pytest.mark.parametrize(
    ("metric", "head", "shown"),
    [
        ("f1", "token_classification", "f1"),
        ("rougeL", "seq2seq_lm", "token accuracy"),
        ("perplexity", "causal_lm", "next_token_accuracy"),
    ],
)
def test_scores_of_generated_texts_and_losses_are_stood_for_by_tokens(metric, head, shown):
    assert curve_metric(SimpleNamespace(metric=metric, head=head)) == shown


@pytest.mark.slow
@pytest.mark.parametrize("task", ["masked_lm", "causal_lm"])
def test_language_models_have_a_sensitivity(tmp_path, task):
    run = text_run(tmp_path / "run", task, steps=(10,), students=(), seeds=(0,))
    (row,) = analyze_sensitivity(run, batches=2, examples=4).rows
    assert row[1] > 1.0
    assert 0 < row[4] <= 1
