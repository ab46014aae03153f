"""Tiny random models with an encoder and a decoder."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

VOCABULARY = 40
SPECIAL = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
BART_LIKE = {"marian": (MarianConfig, MarianMTModel), "bart": (BartConfig, BartForConditionalGeneration)}


def tiny_seq2seq(
    architecture: str, *, seed: int = 0, layers: int = 2, width: int = 16, **overrides: Any
) -> PreTrainedModel:
    """Build a tiny T5, Marian or BART model with fresh weights; the bias behind the head of the last two is not 0."""
    torch.manual_seed(seed)
    if architecture == "t5":
        values = {"d_kv": 8, "d_ff": 2 * width, "num_heads": 2, "num_layers": layers, "dropout_rate": 0.0, **SPECIAL}
        config = T5Config(**{"vocab_size": VOCABULARY, "d_model": width, **values, **overrides})
        return T5ForConditionalGeneration(config)
    config_class, model_class = BART_LIKE[architecture]
    values = {"d_model": width, "dropout": 0.0, "max_position_embeddings": 32, "init_std": 0.3, **SPECIAL}
    for side in ("encoder", "decoder"):
        values |= {f"{side}_layers": layers, f"{side}_attention_heads": 2, f"{side}_ffn_dim": 2 * width}
    config = config_class(**{"vocab_size": VOCABULARY, **values, **overrides})
    model = model_class(config)
    model.final_logits_bias.normal_()
    return model
