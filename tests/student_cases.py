"""Tiny teachers of every family that students can be cut out of, and their logits with some layers only, by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from builders import VOCABULARY, bert_config
from torch import Tensor
from transformers import (
    BertForMaskedLM,
    BertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
    XLMRobertaConfig,
    XLMRobertaForTokenClassification,
)

LAYERS = 4
ALL = {"hidden_size": 16, "num_attention_heads": 4, "intermediate_size": 32}
"""The full width of every teacher here."""
LENGTH = 6


def _bert(**changes: Any) -> PreTrainedModel:
    return BertForMaskedLM(bert_config(**_encoder(**changes)))


def _classifier(**changes: Any) -> PreTrainedModel:
    return BertForSequenceClassification(bert_config(**_encoder(**changes), num_labels=3))


def _encoder(**changes: Any) -> dict[str, Any]:
    return {"num_hidden_layers": LAYERS, "num_attention_heads": 4, **changes}


def _like_bert(config_class: Any, model_class: Any) -> Callable[..., PreTrainedModel]:
    def build(**changes: Any) -> PreTrainedModel:
        values = {**bert_config(**_encoder()).to_dict(), "pad_token_id": 1, "max_position_embeddings": 40, **changes}
        return model_class(config_class(**{key: value for key, value in values.items() if key != "model_type"}))

    return build


def _distilbert(**changes: Any) -> PreTrainedModel:
    sizes = {"dim": 16, "n_layers": LAYERS, "n_heads": 4, "hidden_dim": 32, "max_position_embeddings": 32}
    quiet = {"dropout": 0.0, "attention_dropout": 0.0, "seq_classif_dropout": 0.0, "initializer_range": 0.3}
    return DistilBertForSequenceClassification(
        DistilBertConfig(**{"vocab_size": VOCABULARY, **sizes, **quiet, **changes})
    )


def _gpt2(**changes: Any) -> PreTrainedModel:
    sizes = {"n_embd": 16, "n_layer": LAYERS, "n_head": 4, "n_inner": 32, "n_positions": 32, "initializer_range": 0.3}
    ids = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(**{**sizes, **ids, **changes}))


def _llama(config_class: Any, model_class: Any, **own: Any) -> Callable[..., PreTrainedModel]:
    def build(**changes: Any) -> PreTrainedModel:
        sizes = {**ALL, "num_hidden_layers": LAYERS, "num_key_value_heads": 2, "vocab_size": VOCABULARY}
        return model_class(config_class(**{**sizes, "initializer_range": 0.3, **own, **changes}))

    return build


def _t5(**changes: Any) -> PreTrainedModel:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_heads": 4, "num_layers": LAYERS, "num_decoder_layers": LAYERS}
    more = {"vocab_size": VOCABULARY, "decoder_start_token_id": 0, "dropout_rate": 0.0, "initializer_factor": 2.0}
    return T5ForConditionalGeneration(T5Config(**{**sizes, **more, **changes}))


def _gated_t5(**changes: Any) -> PreTrainedModel:
    return _t5(**{"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, **changes})


def _marian(**changes: Any) -> PreTrainedModel:
    sizes = {f"{side}_{key}": size for side in ("encoder", "decoder") for key, size in _MARIAN_SIZES.items()}
    ids = {"vocab_size": VOCABULARY, "pad_token_id": 0, "decoder_start_token_id": 0, "eos_token_id": 1}
    more = {"d_model": 16, "max_position_embeddings": 32, "forced_eos_token_id": 1, "init_std": 0.3}
    return MarianMTModel(MarianConfig(**{**sizes, **ids, **more, "dropout": 0.0, "scale_embedding": True, **changes}))


_MARIAN_SIZES = {"layers": LAYERS, "attention_heads": 4, "ffn_dim": 32}
TEACHERS: dict[str, Callable[..., PreTrainedModel]] = {
    "bert": _bert,
    "bert-classifier": _classifier,
    "roberta": _like_bert(RobertaConfig, RobertaForMaskedLM),
    "xlm-roberta": _like_bert(XLMRobertaConfig, XLMRobertaForTokenClassification),
    "distilbert": _distilbert,
    "gpt2": _gpt2,
    "llama": _llama(LlamaConfig, LlamaForCausalLM, attention_bias=True, mlp_bias=True),
    "mistral": _llama(MistralConfig, MistralForCausalLM, tie_word_embeddings=True),
    "qwen2": _llama(Qwen2Config, Qwen2ForCausalLM, tie_word_embeddings=True),
    "qwen3": _llama(Qwen3Config, Qwen3ForCausalLM, head_dim=8),
    "t5": _t5,
    "gated-t5": _gated_t5,
    "marian": _marian,
}
OWN_HEAD_SIZE = ("llama", "mistral", "qwen2", "qwen3", "t5", "gated-t5")
"""Families whose heads can be cut without the hidden states."""


def teacher_of(name: str, **changes: Any) -> PreTrainedModel:
    """Build a teacher with random weights, norms and biases included, in eval mode and float64."""
    torch.manual_seed(0)
    teacher = TEACHERS[name](**changes).double().eval()
    with torch.no_grad():
        for parameter in teacher.parameters():
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
    teacher.tie_weights()
    return teacher


def inputs_of(model: PreTrainedModel, *, seed: int = 0) -> dict[str, Tensor]:
    """Make a batch; an encoder-decoder's has another length on each side."""
    generator = torch.Generator().manual_seed(seed)
    batch = {"input_ids": torch.randint(3, VOCABULARY, (2, LENGTH), generator=generator)}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = torch.randint(3, VOCABULARY, (2, LENGTH - 2), generator=generator)
    return batch


@torch.no_grad()
def logits_of(model: PreTrainedModel, *, seed: int = 0) -> Tensor:
    return model(**inputs_of(model, seed=seed)).logits


@torch.no_grad()
def logits_by_hand(model: Any, layers: Sequence[int], decoder_layers: Sequence[int] = ()) -> Tensor:
    """Return the logits with some of the model's own layers, counted from 1, called one after the other."""
    ids = inputs_of(model)["input_ids"]
    return _BY_HAND[model.config.model_type](model, ids, [n - 1 for n in layers], [n - 1 for n in decoder_layers])


def _bert_by_hand(model: Any, ids: Tensor, layers: list[int], _: list[int]) -> Tensor:
    states = model.base_model.embeddings(input_ids=ids)
    for place in layers:
        states = model.base_model.encoder.layer[place](states)
    if isinstance(model, BertForSequenceClassification):
        return model.classifier(model.bert.pooler(states))
    if isinstance(model, XLMRobertaForTokenClassification):
        return model.classifier(states)
    return model.cls(states) if isinstance(model, BertForMaskedLM) else model.lm_head(states)


def _distilbert_by_hand(model: Any, ids: Tensor, layers: list[int], _: list[int]) -> Tensor:
    states = model.distilbert.embeddings(ids)
    for place in layers:
        states = model.distilbert.transformer.layer[place](states)
    return model.classifier(model.pre_classifier(states[:, 0]).relu())


def _gpt2_by_hand(model: Any, ids: Tensor, layers: list[int], _: list[int]) -> Tensor:
    states = model.transformer.wte(ids) + model.transformer.wpe(torch.arange(LENGTH))
    for place in layers:
        states = model.transformer.h[place](states)
    return model.lm_head(model.transformer.ln_f(states))


def _llama_by_hand(model: Any, ids: Tensor, layers: list[int], _: list[int]) -> Tensor:
    states = model.model.embed_tokens(ids)
    angles = model.model.rotary_emb(states, torch.arange(LENGTH)[None])
    for place in layers:
        states = model.model.layers[place](states, position_embeddings=angles)
    return model.lm_head(model.model.norm(states))


def _t5_by_hand(model: Any, ids: Tensor, layers: list[int], decoder_layers: list[int]) -> Tensor:
    # The first layer's table of relative positions serves all, whether the first layer stays or not.
    encoder, decoder = model.encoder.block, model.decoder.block
    states = model.shared(ids)
    bias = encoder[0].layer[0].SelfAttention.compute_bias(LENGTH, LENGTH)
    for place in layers:
        states = encoder[place](states, position_bias=bias)[0]
    states = model.encoder.final_layer_norm(states)
    target_ids = inputs_of(model)["decoder_input_ids"]
    outputs, length = model.shared(target_ids), target_ids.shape[1]
    bias = decoder[0].layer[0].SelfAttention.compute_bias(length, length)
    for place in decoder_layers:
        outputs = decoder[place](
            outputs, attention_mask=_causal(length), position_bias=bias, encoder_hidden_states=states
        )[0]
    outputs = model.decoder.final_layer_norm(outputs)
    scale = model.config.d_model**-0.5 if model.config.scale_decoder_outputs else 1.0
    return model.lm_head(outputs * scale)


def _marian_by_hand(model: Any, ids: Tensor, layers: list[int], decoder_layers: list[int]) -> Tensor:
    encoder, decoder = model.model.encoder, model.model.decoder
    states = encoder.embed_tokens(ids) * encoder.embed_scale + encoder.embed_positions(ids.shape)
    for place in layers:
        states = encoder.layers[place](states, None)
    target_ids = inputs_of(model)["decoder_input_ids"]
    outputs = decoder.embed_tokens(target_ids) * decoder.embed_scale + decoder.embed_positions(target_ids.shape)
    for place in decoder_layers:
        outputs = decoder.layers[place](
            outputs, _causal(target_ids.shape[1]), encoder_hidden_states=states, use_cache=False
        )
    return model.lm_head(outputs) + model.final_logits_bias


def _causal(length: int) -> Tensor:
    hidden = torch.full((length, length), torch.finfo(torch.float64).min, dtype=torch.float64)
    return hidden.triu(1)[None, None]


_BY_HAND: dict[str, Callable[..., Tensor]] = {
    "bert": _bert_by_hand,
    "roberta": _bert_by_hand,
    "xlm-roberta": _bert_by_hand,
    "distilbert": _distilbert_by_hand,
    "gpt2": _gpt2_by_hand,
    "llama": _llama_by_hand,
    "mistral": _llama_by_hand,
    "qwen2": _llama_by_hand,
    "qwen3": _llama_by_hand,
    "t5": _t5_by_hand,
    "marian": _marian_by_hand,
}
