"""Sizes of models, against what their tensors add up to."""

from __future__ import annotations

import torch
from builders import tiny_model
from transformers import GPT2Config, GPT2LMHeadModel

from hf_distill.planning.model_size import model_size


def test_embeddings_that_are_looked_up_are_no_arithmetic():
    model = tiny_model("classification")
    looked_up = sum(module.weight.numel() for module in model.modules() if isinstance(module, torch.nn.Embedding))
    size = model_size(model)
    assert looked_up > 0
    assert size.parameters - size.multiplied == looked_up
    assert size.multiplied == size.body + size.head


def test_a_tied_embedding_is_multiplied_once_as_the_head():
    config = GPT2Config(vocab_size=11, n_positions=8, n_embd=4, n_layer=1, n_head=1)
    size = model_size(GPT2LMHeadModel(config))
    assert size.parameters - size.multiplied == 8 * 4  # the positions alone
    assert (size.hidden, size.outputs, size.layers, size.width) == (4, 11, 1, 4)


def test_a_model_without_memory_has_a_size():
    config = GPT2Config(vocab_size=50257, n_embd=1600, n_layer=48, n_head=25)
    with torch.device("meta"):
        size = model_size(GPT2LMHeadModel(config))
    assert size.parameters == 1_557_611_200  # GPT-2 XL
    assert size.weight_bytes == 4 * size.parameters


def test_the_classes_of_a_classifier_are_its_outputs():
    model = tiny_model("classification")
    size = model_size(model)
    assert (size.outputs, size.hidden) == (model.config.num_labels, model.config.hidden_size)
    assert size.head == model.classifier.weight.numel()
