"""What each axis of each weight is, by the weight's name, in the families of models that can be cut.

An axis is one letter: h hidden states, q query heads, k key and value heads, x heads of the attention to the encoder,
f feed-forward neurons, b one column a head, 3 queries, keys and values side by side, . not cut.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

Patterns = Mapping[str, str]
"""Name of a weight, with wildcards, to the letters of its axes; the first that fits counts."""

HEADS: Patterns = {
    "classifier.weight": ".h",
    "score.weight": ".h",
    "qa_outputs.weight": ".h",
    "lm_head.weight": ".h",
    "classifier.bias": ".",
    "score.bias": ".",
    "qa_outputs.bias": ".",
    "lm_head.bias": ".",
}
BERT_LAYER: Patterns = {
    "attention.self.*.weight": "qh",
    "attention.self.*.bias": "q",
    "attention.output.dense.weight": "hq",
    "intermediate.dense.weight": "fh",
    "intermediate.dense.bias": "f",
    "output.dense.weight": "hf",
    "attention.output.dense.bias": "h",
    "output.dense.bias": "h",
    "attention.output.LayerNorm.*": "h",
    "output.LayerNorm.*": "h",
}
BERT_AROUND: Patterns = {
    "embeddings.*_embeddings.weight": ".h",
    "embeddings.LayerNorm.*": "h",
    "pooler.dense.weight": "hh",
    "pooler.dense.bias": "h",
    "cls.predictions.transform.dense.weight": "hh",
    "cls.predictions.transform.*": "h",
    "cls.predictions.decoder.weight": ".h",
    "cls.predictions.*bias": ".",
    "cls.seq_relationship.weight": ".h",
    "cls.seq_relationship.bias": ".",
    **HEADS,
}
ROBERTA_AROUND: Patterns = {
    "classifier.dense.weight": "hh",
    "classifier.dense.bias": "h",
    "classifier.out_proj.weight": ".h",
    "classifier.out_proj.bias": ".",
    "lm_head.dense.weight": "hh",
    "lm_head.dense.bias": "h",
    "lm_head.layer_norm.*": "h",
    "lm_head.decoder.weight": ".h",
    "lm_head.decoder.bias": ".",
    **BERT_AROUND,
}
DISTILBERT_LAYER: Patterns = {
    "attention.out_lin.weight": "hq",
    "attention.out_lin.bias": "h",
    "attention.?_lin.weight": "qh",
    "attention.?_lin.bias": "q",
    "ffn.lin1.weight": "fh",
    "ffn.lin1.bias": "f",
    "ffn.lin2.weight": "hf",
    "ffn.lin2.bias": "h",
    "*_layer_norm.*": "h",
}
DISTILBERT_AROUND: Patterns = {
    "embeddings.*_embeddings.weight": ".h",
    "embeddings.LayerNorm.*": "h",
    "vocab_transform.weight": "hh",
    "vocab_transform.bias": "h",
    "vocab_layer_norm.*": "h",
    "vocab_projector.weight": ".h",
    "vocab_projector.bias": ".",
    "pre_classifier.weight": "hh",
    "pre_classifier.bias": "h",
    **HEADS,
}
# Conv1D keeps its weights as (in, out), the other way round than nn.Linear.
GPT2_LAYER: Patterns = {
    "attn.c_attn.weight": "h3",
    "attn.c_attn.bias": "3",
    "attn.c_proj.weight": "qh",
    "attn.c_proj.bias": "h",
    "mlp.c_fc.weight": "hf",
    "mlp.c_fc.bias": "f",
    "mlp.c_proj.weight": "fh",
    "mlp.c_proj.bias": "h",
    "ln_*": "h",
}
LLAMA_LAYER: Patterns = {
    "self_attn.q_proj.weight": "qh",
    "self_attn.q_proj.bias": "q",
    "self_attn.[kv]_proj.weight": "kh",
    "self_attn.[kv]_proj.bias": "k",
    "self_attn.o_proj.weight": "hq",
    "self_attn.o_proj.bias": "h",
    "self_attn.[qk]_norm.weight": ".",
    "mlp.gate_proj.weight": "fh",
    "mlp.up_proj.weight": "fh",
    "mlp.gate_proj.bias": "f",
    "mlp.up_proj.bias": "f",
    "mlp.down_proj.weight": "hf",
    "mlp.down_proj.bias": "h",
    "*_layernorm.weight": "h",
}
T5_LAYER: Patterns = {
    "layer.0.SelfAttention.[qkv].weight": "qh",
    "layer.0.SelfAttention.o.weight": "hq",
    "layer.0.SelfAttention.relative_attention_bias.weight": ".b",
    "layer.1.EncDecAttention.[qkv].weight": "xh",
    "layer.1.EncDecAttention.o.weight": "hx",
    "layer.?.DenseReluDense.wi*.weight": "fh",
    "layer.?.DenseReluDense.wo.weight": "hf",
    "layer.?.layer_norm.weight": "h",
}
T5_AROUND: Patterns = {
    "shared.weight": ".h",
    "*.embed_tokens.weight": ".h",
    "*.final_layer_norm.weight": "h",
    "classification_head.dense.weight": "hh",
    "classification_head.dense.bias": "h",
    "classification_head.out_proj.weight": ".h",
    "classification_head.out_proj.bias": ".",
    **HEADS,
}
MARIAN_LAYER: Patterns = {
    "self_attn.out_proj.weight": "hq",
    "self_attn.out_proj.bias": "h",
    "self_attn.?_proj.weight": "qh",
    "self_attn.?_proj.bias": "q",
    "encoder_attn.out_proj.weight": "hx",
    "encoder_attn.out_proj.bias": "h",
    "encoder_attn.?_proj.weight": "xh",
    "encoder_attn.?_proj.bias": "x",
    "fc1.weight": "fh",
    "fc1.bias": "f",
    "fc2.weight": "hf",
    "fc2.bias": "h",
    "*_layer_norm.*": "h",
}
MARIAN_AROUND: Patterns = {
    "shared.weight": ".h",
    "*.embed_tokens.weight": ".h",
    "*.embed_positions.weight": ".h",
    "final_logits_bias": "..",
    "lm_head.weight": ".h",
}

GPT2_AROUND: Patterns = {"wte.weight": ".h", "wpe.weight": ".h", "ln_f.*": "h", **HEADS}
LLAMA_AROUND: Patterns = {"embed_tokens.weight": ".h", "norm.weight": "h", **HEADS}


def axes_of(name: str, patterns: Patterns) -> str | None:
    """Return the letters of a weight's axes, None where its name is not known."""
    return next((axes for pattern, axes in patterns.items() if fnmatchcase(name, pattern)), None)
