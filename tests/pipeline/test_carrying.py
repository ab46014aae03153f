"""Weights that were carried over are counted, and a model that got nothing is refused."""

from __future__ import annotations

import pytest
import torch
from builders import bert_config, tiny_model
from transformers import BertForSequenceClassification, BertModel, GPT2ForSequenceClassification

from hf_distill.pipeline.carrying import carried_share


@pytest.mark.parametrize(
    ("head", "kind"), [("masked_lm", BertForSequenceClassification), ("causal_lm", GPT2ForSequenceClassification)]
)
def test_the_body_is_carried_and_the_head_is_new(tmp_path, head, kind):
    source = tiny_model(head)
    source.save_pretrained(tmp_path)
    model = kind.from_pretrained(tmp_path)
    share = carried_share(model, tmp_path)
    body = {name: one.numel() for name, one in model.base_model.named_parameters() if "pooler" not in name}
    assert share == pytest.approx(sum(body.values()) / sum(one.numel() for one in model.parameters()), abs=0.02)
    assert 0.8 < share < 1.0


def test_a_body_saved_without_its_prefix_is_found(tmp_path):
    torch.manual_seed(0)
    BertModel(bert_config()).save_pretrained(tmp_path)
    model = BertForSequenceClassification.from_pretrained(tmp_path)
    assert carried_share(model, tmp_path) > 0.95


def test_the_same_model_is_carried_whole(tmp_path):
    model = tiny_model("classification")
    model.save_pretrained(tmp_path)
    assert carried_share(type(model).from_pretrained(tmp_path), tmp_path) == 1.0


def test_new_weights_are_not_taken_for_carried_ones(tmp_path):
    tiny_model("masked_lm").save_pretrained(tmp_path)
    fresh = BertForSequenceClassification(bert_config(initializer_range=0.5))
    # Biases and norms begin as everywhere; no weight does.
    assert carried_share(fresh, tmp_path) < 0.15


def test_weights_of_another_architecture_are_refused(tmp_path):
    tiny_model("causal_lm").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"none of the weights in .* is in a BertForSequenceClassification"):
        carried_share(tiny_model("classification"), tmp_path)
