"""The families of models that can be cut: where their layers lie and what their configurations call things."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from transformers import PreTrainedConfig

from hf_distill.student_making import weight_axes
from hf_distill.student_making.weight_axes import Patterns


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A pile of layers.

    Attributes:
        path: Of their list below the base model.
        weights: Of a layer.
        layers: The config's key for their number.
        heads: For their attention heads.
        neurons: For their feed-forward neurons.
        key_heads: For their heads of keys and values, where those are fewer.
        first_only: Weights that only the first layer has, and that serve all.
        one_choice_of_heads: Whether all layers must keep the same heads, because what the first has serves all.
    """

    path: str
    weights: Patterns
    layers: str
    heads: str
    neurons: str
    key_heads: str | None = None
    first_only: str | None = None
    one_choice_of_heads: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """Models with one layout.

    Attributes:
        stacks: By name; an encoder-decoder has `encoder` and `decoder`, others `layers`.
        hidden: The config's key for the width of the hidden states.
        around: Weights outside the layers.
        head_size: The config's key for the size of a head, where it stands for itself; None where the heads fill the
            hidden states.
        scaled_embeddings: The config's key that says whether embeddings are multiplied by the root of the width.
        computed_positions: Whether positions are sinusoids that transformers computes anew for every width.
        by_place: A config's key that makes a layer depend on its place, so that no other layer can take it.
    """

    stacks: Mapping[str, Stack]
    hidden: str
    around: Patterns
    head_size: str | None = None
    scaled_embeddings: str | None = None
    computed_positions: bool = False
    by_place: str | None = None


def _bert(around: Patterns) -> Family:
    stack = Stack(
        path="encoder.layer",
        weights=weight_axes.BERT_LAYER,
        layers="num_hidden_layers",
        heads="num_attention_heads",
        neurons="intermediate_size",
    )
    return Family(stacks={"layers": stack}, hidden="hidden_size", around=around)


def _distilbert() -> Family:
    stack = Stack(
        path="transformer.layer",
        weights=weight_axes.DISTILBERT_LAYER,
        layers="n_layers",
        heads="n_heads",
        neurons="hidden_dim",
    )
    return Family(stacks={"layers": stack}, hidden="dim", around=weight_axes.DISTILBERT_AROUND)


def _gpt2() -> Family:
    stack = Stack(path="h", weights=weight_axes.GPT2_LAYER, layers="n_layer", heads="n_head", neurons="n_inner")
    by_place = "scale_attn_by_inverse_layer_idx"
    return Family(stacks={"layers": stack}, hidden="n_embd", around=weight_axes.GPT2_AROUND, by_place=by_place)


def _llama() -> Family:
    stack = Stack(
        path="layers",
        weights=weight_axes.LLAMA_LAYER,
        layers="num_hidden_layers",
        heads="num_attention_heads",
        neurons="intermediate_size",
        key_heads="num_key_value_heads",
    )
    return Family(
        stacks={"layers": stack}, hidden="hidden_size", around=weight_axes.LLAMA_AROUND, head_size="head_dim"
    )


def _t5() -> Family:
    keys = {"heads": "num_heads", "neurons": "d_ff"}
    table = "layer.0.SelfAttention.relative_attention_bias.weight"
    stacks = {
        name: Stack(
            path=f"{name}.block",
            weights=weight_axes.T5_LAYER,
            layers=layers,
            first_only=table,
            one_choice_of_heads=True,
            **keys,
        )
        for name, layers in (("encoder", "num_layers"), ("decoder", "num_decoder_layers"))
    }
    return Family(stacks=stacks, hidden="d_model", around=weight_axes.T5_AROUND, head_size="d_kv")


def _marian() -> Family:
    stacks = {
        name: Stack(
            path=f"{name}.layers",
            weights=weight_axes.MARIAN_LAYER,
            layers=f"{name}_layers",
            heads=f"{name}_attention_heads",
            neurons=f"{name}_ffn_dim",
        )
        for name in ("encoder", "decoder")
    }
    return Family(
        stacks=stacks,
        hidden="d_model",
        around=weight_axes.MARIAN_AROUND,
        scaled_embeddings="scale_embedding",
        computed_positions=True,
    )


FAMILIES: Mapping[str, Family] = {
    "bert": _bert(weight_axes.BERT_AROUND),
    "roberta": _bert(weight_axes.ROBERTA_AROUND),
    "xlm-roberta": _bert(weight_axes.ROBERTA_AROUND),
    "camembert": _bert(weight_axes.ROBERTA_AROUND),
    "distilbert": _distilbert(),
    "gpt2": _gpt2(),
    "llama": _llama(),
    "mistral": _llama(),
    "qwen2": _llama(),
    "qwen3": _llama(),
    "t5": _t5(),
    "mt5": _t5(),
    "marian": _marian(),
}
"""By `model_type` of the configuration."""


def family_of(config: PreTrainedConfig) -> Family:
    """Return the layout of a model.

    Raises:
        ValueError: The architecture cannot be cut; the message names those that can.
    """
    kind = str(config.model_type)
    if kind not in FAMILIES:
        raise ValueError(
            f"a student cannot be cut out of a {kind!r} model: where its layers and heads lie is not known. It can be "
            f"cut out of {', '.join(FAMILIES)}; for others give the student's `architecture` and `config`, or "
            "`pretrained` weights"
        )
    return FAMILIES[kind]
