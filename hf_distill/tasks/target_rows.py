"""From texts to what an encoder reads and what a decoder should write, each with an end token; cuts are counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tokenizers import processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hf_distill.tasks.token_rows import Ragged

ROWS_AT_ONCE = 10_000


class EncodedSide(NamedTuple):
    """Token ids row by row, and how many rows were cut."""

    ids: Ragged
    cut: int


def encode_sources(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, max_length: int) -> EncodedSide:
    """Encode what an encoder reads.

    Special tokens spelt out in a text are read as ordinary text. What is too long loses its last tokens, and keeps
    the end token.

    Args:
        tokenizer: As `ending_texts` leaves it.
        texts: One a row.
        max_length: Tokens of a row at most.
    """
    return _encode(tokenizer, texts, "text", max_length)


def encode_targets(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, max_length: int) -> EncodedSide:
    """Encode what a decoder should write: as `encode_sources`, in the target's language where tokenizers have two."""
    return _encode(tokenizer, texts, "text_target", max_length)


def ending_texts(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """Return a tokenizer that puts its end token behind each text, by itself and as it is saved.

    One that adds no special tokens at all (as those trained here) is given the rule.

    Raises:
        ValueError: It has no end token or no padding token, or puts no end token behind a text.
    """
    end, pad = tokenizer.eos_token, tokenizer.pad_token
    if end is None or pad is None:
        raise ValueError(
            f"tokenizer: {type(tokenizer).__name__} has {'no end token' if end is None else 'no padding token'}; a "
            "decoder needs both. Use {train: {kind: bpe, vocab_size: 8000}}, or that of a sequence-to-sequence model"
        )
    if not tokenizer.num_special_tokens_to_add() and isinstance(tokenizer, PreTrainedTokenizerFast):
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single=["$A", end], pair=["$A", end, "$B:1", f"{end}:1"], special_tokens=[(end, tokenizer.eos_token_id)]
        )
    if tokenizer("a")["input_ids"][-1:] != [tokenizer.eos_token_id]:
        raise ValueError(
            f"tokenizer: {type(tokenizer).__name__} does not put its end token {end!r} behind a text; use that of a "
            "sequence-to-sequence model, or {train: {kind: bpe, vocab_size: 8000}}"
        )
    return tokenizer


def _encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], side: str, max_length: int) -> EncodedSide:
    end, cut = tokenizer.eos_token_id, 0
    rows: list[list[int]] = []
    for start in range(0, len(texts), ROWS_AT_ONCE):
        part: dict[str, Any] = {side: list(texts[start : start + ROWS_AT_ONCE])}
        encoded = tokenizer(**part, return_attention_mask=False, split_special_tokens=True, verbose=False)
        for ids in encoded["input_ids"]:
            cut += len(ids) > max_length
            rows.append(ids if len(ids) <= max_length else [*ids[: max_length - 1], end])
    return EncodedSide(Ragged.of(rows), cut)
