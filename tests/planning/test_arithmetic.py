"""Arithmetic of models, against what PyTorch counts while they run."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import BertConfig, BertForMaskedLM, Qwen2Config, Qwen2ForCausalLM

from hf_distill.planning.arithmetic import forward_flops, train_flops
from hf_distill.planning.memory import BatchShape
from hf_distill.planning.model_size import model_size

SHARED = {"vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4}
SHARED |= {"intermediate_size": 256, "max_position_embeddings": 64}
MODELS = {
    "bert": (BertForMaskedLM, BertConfig(**SHARED)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**SHARED, num_key_value_heads=4, tie_word_embeddings=True)),
}
WHOLE = BatchShape(examples=2, tokens=64, positions=64, rows=64)


def counted(name: str, *, backward: bool) -> tuple[float, object]:
    """Operations of matrix products with the head at all positions, as PyTorch counts them."""
    torch.manual_seed(0)
    kind, config = MODELS[name]
    config._attn_implementation = "eager"
    model = kind(config)
    ids = torch.randint(0, 500, (2, 32))
    with FlopCounterMode(display=False) as counter:
        logits = model(input_ids=ids).logits
        if backward:
            logits.sum().backward()
    return counter.get_total_flops(), model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("backward", [False, True])
def test_operations_are_those_that_run(name, backward):
    found, model = counted(name, backward=backward)
    told = (train_flops if backward else forward_flops)(model_size(model), WHOLE)
    # Biases and norms are counted as if they were products; the input of the first layer needs no gradient.
    assert told == pytest.approx(found, rel=0.03)


def test_a_head_counts_for_the_rows_that_need_it():
    size = model_size(counted("bert", backward=False)[1])
    few = BatchShape(examples=2, tokens=64, positions=64, rows=10)
    assert forward_flops(size, WHOLE) - forward_flops(size, few) == 54 * 2 * 64 * 500


def test_positions_that_look_back_only_cost_half_the_attention():
    size = model_size(counted("qwen2", backward=False)[1])
    saved = forward_flops(size, WHOLE) - forward_flops(size, WHOLE, causal=True)
    assert saved == 64 * 2 * 32 * 64 * 3
