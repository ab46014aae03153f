"""Causal language modelling: predict each token from those before it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedTokenizerBase

from hf_distill.reading.signals import IGNORE_INDEX, Head
from hf_distill.tasks.base import TASKS, TaskData
from hf_distill.tasks.batches import BatchDataset
from hf_distill.tasks.model_building import AutoClass
from hf_distill.tasks.text_blocks import Blocks, cut_stream, end_of_document_id, padding_id
from hf_distill.tasks.text_task import Side, TextTask


class CausalBlocks(BatchDataset):
    """Blocks whose labels are their own tokens, unshifted; -100 at padding, told by length and not by token id."""

    def __init__(self, blocks: Blocks) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks.ids)

    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Label every token of a block with itself, and what lies beyond its length with -100."""
        ids = self.blocks.ids[rows].astype(np.int64)
        attended = np.arange(ids.shape[1]) < self.blocks.lengths[rows, None]
        return {
            "input_ids": torch.from_numpy(ids),
            "attention_mask": torch.from_numpy(attended.astype(np.int64)),
            "labels": torch.from_numpy(np.where(attended, ids, IGNORE_INDEX)),
        }


@TASKS.register("causal_lm")
@dataclass(kw_only=True)
class CausalLM(TextTask):
    """Predict the next token. Blocks overlap by one token, so that each token of the text is predicted exactly once.

    The stream begins with an end-of-document token: the first token of the text is predicted too, and the bits of the
    held-out blocks are those of the whole held-out text.
    """

    head: ClassVar[Head] = "causal_lm"
    metric: ClassVar[str] = "perplexity"
    greater_is_better: ClassVar[bool] = False

    tokenizer: dict[str, Any] = field(
        default_factory=lambda: {"train": {"kind": "bpe", "vocab_size": 4096}},
        metadata={"help": "{train: {kind: bpe or wordpiece, vocab_size}} or {pretrained: ORG/NAME, revision}"},
    )

    def auto_class(self) -> AutoClass:
        """Return the class with a head for the next token."""
        return AutoModelForCausalLM

    def cut(self, stream: NDArray[np.int32], tokenizer: PreTrainedTokenizerBase, *, keep_tail: bool) -> Blocks:
        """Put an end of document first; the last token of a block is the first one of the next."""
        end = end_of_document_id(tokenizer)
        stream = np.concatenate([np.array([end], dtype=np.int32), stream])
        return cut_stream(stream, self.max_length, overlap=1, keep_tail=keep_tail, pad_id=padding_id(tokenizer))

    def train_set(self, blocks: Blocks, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> CausalBlocks:
        """Return the blocks as they are, whatever the seed: nothing is drawn."""
        return CausalBlocks(blocks)

    def validation_set(self, blocks: Blocks, tokenizer: PreTrainedTokenizerBase) -> CausalBlocks:
        """Return the blocks as training has them."""
        return CausalBlocks(blocks)

    def bytes_per_token(self, validation: Side) -> float:
        """Divide by the tokens that are predicted: all but the first one of each block."""
        predicted = validation.tokens - len(validation.blocks.ids)
        return validation.bytes / predicted

    def config_defaults(
        self, config_class: type[PreTrainedConfig], given: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """Add causal attention, and an end of document that also stands for a missing beginning."""
        defaults = super().config_defaults(config_class, given, data)
        assert data.processing_class is not None
        defaults["eos_token_id"] = end_of_document_id(data.processing_class)
        if defaults["bos_token_id"] is None:
            defaults["bos_token_id"] = defaults["eos_token_id"]
        # Encoders such as BERT would see the token they predict.
        if any(item.name == "is_decoder" for item in dataclasses.fields(config_class)):
            defaults["is_decoder"] = True
        return defaults

    def preprocessing(self) -> str:
        """Name the length of a block and its overlap."""
        return f"blocks of {self.max_length} tokens that overlap by one, so that each token is predicted once"
