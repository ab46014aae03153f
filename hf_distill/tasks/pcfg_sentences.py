"""Sentences of a grammar as examples of masked and causal language modelling.

Shape legend: B sentences, T positions: one for BOS, then the terminals, then padding.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerFast

from hf_distill.reading.signals import IGNORE_INDEX
from hf_distill.tasks.batches import BatchCollator, BatchDataset
from hf_distill.tasks.counter_random import CounterStream
from hf_distill.tasks.pcfg_grammar import TERMINALS, Trees, TreeSampler

BOS, EOS, PAD, MASK = 3, 4, 5, 6
VOCABULARY = (*TERMINALS, "[BOS]", "[EOS]", "[PAD]", "[MASK]", "[UNK]")
"""The paper's ids and its vocabulary of 8; the last one is unused there."""

_DRAW_BITS, _KIND_BITS = 24, 20
_FILL = {"input_ids": PAD, "attention_mask": 0, "labels": IGNORE_INDEX}


class Sentences(NamedTuple):
    """Sentences with their trees. Shapes: `ids` and `attended` (B, T)."""

    ids: NDArray[np.int64]
    attended: NDArray[np.bool_]
    trees: Trees


class SentenceDataset(BatchDataset):
    """`count` sentences that are made when asked for: sentence i depends on the sampler's stream and on i only.

    A batch is as wide as its longest sentence.

    Args:
        sampler: Draws the trees.
        count: Sentences; they cost no memory.
    """

    def __init__(self, sampler: TreeSampler, *, count: int) -> None:
        self.sampler, self.count = sampler, count

    def __len__(self) -> int:
        return self.count

    def sentences(self, rows: NDArray[np.int64]) -> Sentences:
        """Return the sentences `rows`: BOS, the terminals, padding; no EOS, as in the paper.

        Shapes: (B,).
        """
        trees = self.sampler.sample(rows)
        terminals = trees.ancestors(0)
        ids = np.concatenate([np.full((len(rows), 1), BOS), np.where(terminals < 0, PAD, terminals)], axis=1)
        return Sentences(ids, ids != PAD, trees)

    @abstractmethod
    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the examples `rows` with "input_ids", "attention_mask" and "labels".

        Shapes: (B,) -> (B, T) each.
        """


class MaskedSentences(SentenceDataset):
    """Sentences with hidden terminals; what is hidden in sentence i depends on the stream and on i only.

    Of the positions to predict 80 % show the mask token, 10 % a random terminal, 10 % their own.

    Args:
        sampler: Draws the trees.
        stream: Where the masks come from.
        count: Sentences.
        mask_rate: Share of the terminals that are predicted.
        attend_masked: Whether positions to predict can be attended to.
    """

    def __init__(
        self, sampler: TreeSampler, stream: CounterStream, *, count: int, mask_rate: float, attend_masked: bool
    ) -> None:
        super().__init__(sampler, count=count)
        self.stream, self.mask_rate, self.attend_masked = stream, mask_rate, attend_masked

    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Hide terminals, never BOS: labels are the hidden ones."""
        ids, attended, _ = self.sentences(rows)
        chosen, shown = self._hide(ids, rows)
        chosen &= attended & (ids != BOS)
        seen = attended if self.attend_masked else attended & ~chosen
        return _tensors(np.where(chosen, shown, ids), seen, np.where(chosen, ids, IGNORE_INDEX))

    def _hide(self, ids: NDArray[np.int64], rows: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Return which positions are drawn, and what each would show. Shapes: (B, T), (B,) -> (B, T), (B, T)."""
        stride = np.uint64(self.sampler.grammar.longest + 1)
        counters = rows.astype(np.uint64)[:, None] * stride + np.arange(ids.shape[1], dtype=np.uint64)
        # One draw a position: three numbers of 24, 20 and 20 bits cost a third of three draws.
        bits = self.stream.uint64(counters.astype(np.uint64, copy=False))
        drawn = bits >> np.uint64(64 - _DRAW_BITS) < np.uint64(round(self.mask_rate * 2**_DRAW_BITS))
        part = np.uint64(2**_KIND_BITS - 1)
        kind = (bits >> np.uint64(_KIND_BITS) & part) / 2**_KIND_BITS
        terminal = ((bits & part) * np.uint64(len(TERMINALS)) >> np.uint64(_KIND_BITS)).astype(np.int64)
        return drawn, np.where(kind < 0.8, MASK, np.where(kind < 0.9, terminal, ids))


class CausalSentences(SentenceDataset):
    """Sentences of which each terminal that ends a symbol of a height is to be predicted from those before it.

    Args:
        sampler: Draws the trees.
        count: Sentences.
        level: The height: 0 for every terminal, 1 for the last one of each lowest non-terminal, and so on.
    """

    def __init__(self, sampler: TreeSampler, *, count: int, level: int) -> None:
        super().__init__(sampler, count=count)
        self.level = level

    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Label the terminals that end a symbol of the level; unshifted."""
        ids, attended, trees = self.sentences(rows)
        ends = np.pad(trees.ends(self.level), ((0, 0), (1, 0)))
        return _tensors(ids, attended, np.where(ends, ids, IGNORE_INDEX))


class SentenceCollator(BatchCollator):
    """Makes one batch of sentences, those picked one by one padded to the longest."""

    def __init__(self) -> None:
        super().__init__(label_dimensions=1)

    def __call__(self, features: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the columns with all rows of `features`."""
        width = max(feature["labels"].shape[-1] for feature in features)
        return super().__call__([_widened(feature, width) for feature in features])


def sentence_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer that reads "cabca" as BOS and five terminals, so that saved models can be used on text."""
    tokenizer = Tokenizer(
        models.WordLevel({token: place for place, token in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", BOS)])
    names = {"bos": "[BOS]", "eos": "[EOS]", "pad": "[PAD]", "mask": "[MASK]", "unk": "[UNK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **{f"{name}_token": token for name, token in names.items()}
    )


def _tensors(ids: NDArray[np.int64], seen: NDArray[np.bool_], labels: NDArray[np.int64]) -> dict[str, Tensor]:
    columns = {"input_ids": ids, "attention_mask": seen.astype(np.int64), "labels": labels}
    return {name: torch.from_numpy(column) for name, column in columns.items()}


def _widened(feature: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    return {name: pad(column, (0, width - column.shape[-1]), value=_FILL[name]) for name, column in feature.items()}
