"""Masked language modelling: predict hidden tokens from both sides (BERT, Devlin et al. 2018, arXiv 1810.04805)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoModelForMaskedLM, PreTrainedTokenizerBase

from hf_distill.reading.signals import IGNORE_INDEX, Head
from hf_distill.tasks.base import TASKS
from hf_distill.tasks.batches import BatchDataset
from hf_distill.tasks.counter_random import CounterStream
from hf_distill.tasks.model_building import AutoClass
from hf_distill.tasks.text_blocks import Blocks, cut_stream, padding_id, surround
from hf_distill.tasks.text_task import TextTask

SHARE_MASKED = 0.8
"""Of the positions to predict, so many show the mask token; half of the others a random token, the rest their own."""


class MaskedBlocks(BatchDataset):
    """Blocks with hidden tokens; what is hidden in example i depends on the stream and on i only.

    Masks are not drawn from the global generator, as the collator of `transformers` does: the Trainer restores that
    one only after it has fetched the first batches of a resumed run.

    Args:
        blocks: The text, N blocks of L positions.
        tokenizer: Gives the mask token and the special tokens, which are never hidden.
        stream: Where the masks come from.
        mask_rate: Share of the tokens that are predicted.
        copies: How many differently masked copies of each block the set holds: example i is block i mod N.

    Raises:
        ValueError: The tokenizer has no mask token.
    """

    def __init__(
        self,
        blocks: Blocks,
        tokenizer: PreTrainedTokenizerBase,
        *,
        stream: CounterStream,
        mask_rate: float,
        copies: int = 1,
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise ValueError(
                "tokenizer: has no mask token, which masked_lm needs. Train one ({train: {kind: wordpiece}}), name "
                "one of a masked model, or use the task causal_lm."
            )
        self.blocks, self.stream, self.mask_rate, self.copies = blocks, stream, mask_rate, copies
        self.mask_token_id = tokenizer.mask_token_id
        self._is_special = np.zeros(len(tokenizer), dtype=bool)
        self._is_special[[token for token in tokenizer.all_special_ids if token < len(tokenizer)]] = True
        self._ordinary_ids = np.flatnonzero(~self._is_special)

    def __len__(self) -> int:
        return len(self.blocks.ids) * self.copies

    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Hide tokens, never special ones: labels are the hidden ones; copies of a block differ in their masks."""
        block = rows % len(self.blocks.ids)
        ids = self.blocks.ids[block].astype(np.int64)
        attended = np.arange(ids.shape[1]) < self.blocks.lengths[block, None]
        chosen, shown = self._hide(ids, rows)
        chosen &= attended & ~self._is_special[ids]
        return {
            "input_ids": torch.from_numpy(np.where(chosen, shown, ids)),
            "attention_mask": torch.from_numpy(attended.astype(np.int64)),
            "labels": torch.from_numpy(np.where(chosen, ids, IGNORE_INDEX)),
        }

    def _hide(self, ids: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return which positions are drawn, and what each would show. Shapes: (B, L), (B,) -> (B, L), (B, L)."""
        length = np.uint64(ids.shape[1])
        positions = rows.astype(np.uint64)[:, None] * length + np.arange(length, dtype=np.uint64)
        counters = positions * np.uint64(3) + np.arange(3, dtype=np.uint64)[:, None, None]
        drawn, kind, token = self.stream.uniform(counters.astype(np.uint64, copy=False))
        random_ids = self._ordinary_ids[(token * len(self._ordinary_ids)).astype(np.int64)]
        shown = np.where(
            kind < SHARE_MASKED, self.mask_token_id, np.where(kind < (1 + SHARE_MASKED) / 2, random_ids, ids)
        )
        return drawn < self.mask_rate, shown


@TASKS.register("masked_lm")
@dataclass(kw_only=True)
class MaskedLM(TextTask):
    """Predict 15 % of the tokens of a block, hidden, from the others.

    Of the tokens to predict 80 % show the mask token, 10 % a random one and 10 % themselves. The held-out masks are
    the same in every evaluation of every run, so that curves can be compared; training masks are a function of the
    training seed and the example's number.
    """

    head: ClassVar[Head] = "masked_lm"
    metric: ClassVar[str] = "masked_accuracy"
    greater_is_better: ClassVar[bool] = True

    mask_rate: float = field(default=0.15, metadata={"help": "share of the tokens that are predicted"})
    mask_copies: int = field(
        default=10,
        metadata={"help": "differently masked copies of each block in one epoch (BERT's own pre-training: 10)"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.mask_rate < 1.0:
            raise ValueError(f"mask_rate: expected a share between 0 and 1, got {self.mask_rate}")
        if self.mask_copies < 1:
            raise ValueError(f"mask_copies: expected at least 1, got {self.mask_copies}")

    def auto_class(self) -> AutoClass:
        """Return the class with a head for hidden tokens."""
        return AutoModelForMaskedLM

    def cut(self, stream: NDArray[np.int32], tokenizer: PreTrainedTokenizerBase, *, keep_tail: bool) -> Blocks:
        """Surround each block with the tokenizer's first and last special token, inside of `max_length`."""
        ends: dict[str, Any] = {"first": tokenizer.cls_token_id, "last": tokenizer.sep_token_id}
        room = self.max_length - sum(end is not None for end in ends.values())
        pad_id = padding_id(tokenizer)
        return surround(cut_stream(stream, room, keep_tail=keep_tail, pad_id=pad_id), **ends, pad_id=pad_id)

    def train_set(self, blocks: Blocks, tokenizer: PreTrainedTokenizerBase, *, seed: int) -> MaskedBlocks:
        """Mask by the training seed, every block `mask_copies` times in an epoch."""
        stream = CounterStream("masked_lm/train", seed)
        return MaskedBlocks(blocks, tokenizer, stream=stream, mask_rate=self.mask_rate, copies=self.mask_copies)

    def validation_set(self, blocks: Blocks, tokenizer: PreTrainedTokenizerBase) -> MaskedBlocks:
        """Mask once, the same for all seeds."""
        stream = CounterStream("masked_lm/validation", 0)
        return MaskedBlocks(blocks, tokenizer, stream=stream, mask_rate=self.mask_rate)

    def preprocessing(self) -> str:
        """Name the share that is predicted and the maskings of a block."""
        return (
            f"blocks of {self.max_length} tokens; {self.mask_rate:.0%} of the tokens predicted (80/10/10), "
            f"{self.mask_copies} maskings a block in an epoch, one fixed masking of the held-out text"
        )
