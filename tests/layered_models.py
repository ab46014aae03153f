"""Small models of other families, and what counts the calls of their layers."""

from __future__ import annotations

import pytest
from builders import VOCABULARY
from torch import nn
from transformers import DistilBertConfig, DistilBertForMaskedLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from hf_distill.reading.layers import layers_of

LAYERS = 3
# PEFT asks the model for a name that transformers is giving up.
PEFT_WARNS = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def distilbert() -> PreTrainedModel:
    config = DistilBertConfig(vocab_size=VOCABULARY, dim=16, n_layers=LAYERS, n_heads=2, hidden_dim=32, dropout=0.0)
    config.attention_dropout = 0.0
    return DistilBertForMaskedLM(config)


def llama() -> PreTrainedModel:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=1, initializer_range=0.3, **sizes))


class Calls:
    """Counts the calls of each layer and of the output layer by forward hooks of its own."""

    def __init__(self, model: nn.Module) -> None:
        self.layers = [0] * len(layers_of(model))
        self.head = 0
        for index, layer in enumerate(layers_of(model)):
            layer.register_forward_pre_hook(lambda *_, index=index: self._count(index))
        model.get_output_embeddings().register_forward_pre_hook(lambda *_: self._count(None))

    def _count(self, index: int | None) -> None:
        if index is None:
            self.head += 1
        else:
            self.layers[index] += 1
