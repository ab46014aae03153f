"""From documents to blocks of token ids: split, encode, put end to end, cut.

Shape legend: N blocks, L positions of a block, S tokens of a stream.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from hf_distill.tasks.lazy_texts import SelectedTexts

DOCUMENTS_AT_ONCE = 10_000


class Blocks(NamedTuple):
    """Token ids (N, L) and how many positions of each block are text (N,); the rest is padding."""

    ids: NDArray[np.int32]
    lengths: NDArray[np.int32]


def split_by_hash(documents: Sequence[str], validation_fraction: float) -> tuple[Sequence[str], Sequence[str]]:
    """Return (training, held-out) documents; which side one lies on depends on its text alone.

    So equal documents never lie on both sides, and a document keeps its side when others come or go.
    """
    held_out = np.fromiter((_draw(text) < validation_fraction for text in documents), dtype=bool, count=len(documents))
    return tuple(SelectedTexts(documents, np.flatnonzero(side)) for side in (~held_out, held_out))  # type: ignore[return-value]


def _draw(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2.0**64


def end_of_document_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that ends a document: EOS, or the separator of tokenizers without one.

    Raises:
        ValueError: The tokenizer has neither.
    """
    for end in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        if end is not None:
            return end
    raise ValueError("tokenizer: has neither an EOS nor a separator token, so documents cannot be told apart")


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id that fills up a block: padding, or the end of documents for tokenizers without one."""
    return end_of_document_id(tokenizer) if tokenizer.pad_token_id is None else tokenizer.pad_token_id


def token_stream(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> NDArray[np.int32]:
    """Return all documents as one row of token ids, each followed by its end.

    Special tokens spelt out in a document ("[MASK]" in a manual) are read as ordinary text.

    Shapes: -> (S,).
    """
    end, parts = end_of_document_id(tokenizer), []
    starts = range(0, len(texts), DOCUMENTS_AT_ONCE)
    # A bar only where there is something to wait for.
    for start in tqdm(starts, desc="reading text", unit_scale=DOCUMENTS_AT_ONCE, disable=len(starts) < 10):
        encoded = tokenizer(
            list(texts[start : start + DOCUMENTS_AT_ONCE]),
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            split_special_tokens=True,
            verbose=False,
        )["input_ids"]
        parts.append(np.fromiter((token for ids in encoded for token in (*ids, end)), dtype=np.int32))
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int32)


def cut_stream(stream: NDArray[np.int32], length: int, *, overlap: int = 0, keep_tail: bool, pad_id: int) -> Blocks:
    """Cut a stream into blocks.

    Args:
        stream: Token ids.
        length: Positions of a block, L.
        overlap: Tokens a block repeats from the end of the one before.
        keep_tail: Whether the rest becomes a padded block or is dropped.
        pad_id: What padding holds.

    Shapes: (S,) -> (N, L).
    """
    step = length - overlap
    count, rest = divmod(max(len(stream) - overlap, 0), step)
    tail = bool(keep_tail and rest)
    ids = np.full((count + tail, length), pad_id, dtype=np.int32)
    if count:
        ids[:count] = np.lib.stride_tricks.sliding_window_view(stream, length)[::step][:count]
    lengths = np.full(count + tail, length, dtype=np.int32)
    if tail:
        lengths[count] = rest + overlap
        ids[count, : rest + overlap] = stream[count * step :]
    return Blocks(ids, lengths)


def surround(blocks: Blocks, *, first: int | None, last: int | None, pad_id: int) -> Blocks:
    """Put a token before and one after the text of each block, such as [CLS] and [SEP]; None adds nothing.

    Shapes: (N, L) -> (N, L + number of tokens put in).
    """
    before, after = int(first is not None), int(last is not None)
    ids = np.pad(blocks.ids, ((0, 0), (before, after)), constant_values=pad_id)
    if first is not None:
        ids[:, 0] = first
    if last is not None:
        ids[np.arange(len(ids)), before + blocks.lengths] = last
    return Blocks(ids, blocks.lengths + before + after)
