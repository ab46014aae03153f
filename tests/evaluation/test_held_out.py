"""What measures a model while its weights are changed: the Trainer, on what its run holds out."""

from __future__ import annotations

import pytest
import torch
from analysed_run import parity_run, text_run, write_run
from tables import TOKENIZER, write_sentences

from hf_distill.evaluation.held_out import check_examples, classes_in_order, held_out_metric
from hf_distill.evaluation.quality import quality_of


def test_the_metric_is_of_the_weights_at_that_moment(tmp_path):
    run = parity_run(tmp_path / "run")
    model = next(run.students()).model
    labels = torch.cat([batch["labels"] for batch in run.batches("validation")])
    with held_out_metric(run, model, "accuracy") as evaluate:
        before = evaluate()
        assert before == pytest.approx(quality_of(run, model, reference=None).metrics["accuracy"])
        with torch.no_grad():
            model.get_parameter("output.weight").zero_()
            model.get_parameter("output.bias").copy_(torch.tensor([0.0, 9.0]))
        assert evaluate() == pytest.approx((labels == 1).double().mean().item())


def test_some_examples_are_the_first_ones(tmp_path):
    run = text_run(tmp_path / "run", "causal_lm")
    model = next(run.students()).model
    with torch.no_grad():
        rows = [run.rows(model, batch) for batch in run.batches("validation", examples=3)]
    right = torch.cat([logits.argmax(-1) == labels for logits, labels in rows])
    with held_out_metric(run, model, "next_token_accuracy", examples=3) as evaluate:
        assert evaluate() == pytest.approx(right.double().mean().item())
    with pytest.raises(ValueError, match="at least 1, got 0"):
        check_examples(run, "next_token_accuracy", 0)


def test_classes_in_another_order_answer_in_the_datas_and_only_there(tmp_path):
    data = write_sentences(tmp_path / "data", ["sentence"], [row % 2 for row in range(12)])
    task = {"name": "glue", "subset": "sst2", "data": {"path": str(data)}, "tokenizer": TOKENIZER}
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    run = write_run(
        tmp_path / "run", task, {"architecture": "bert", "config": sizes}, students=("labels",), seeds=(0,)
    )
    model = next(run.students()).model
    (batch, *_) = run.batches("validation")
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    usual = model(**inputs).logits
    model.config.id2label = {0: "positive", 1: "negative"}
    model.config.label2id = {"positive": 0, "negative": 1}
    with classes_in_order(run, model):
        assert torch.equal(model(**inputs).logits, usual.flip(-1))
    assert torch.equal(model(**inputs).logits, usual)
