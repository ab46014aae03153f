"""From texts, or pairs of texts, to token ids of at most so many positions; what is cut off is counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from hf_distill.tasks.text_blocks import end_of_document_id
from hf_distill.tasks.token_rows import Ragged

ROWS_AT_ONCE = 10_000


class EncodedTexts(NamedTuple):
    """Token ids row by row, token types where the tokenizer gives them, and how many rows were cut."""

    columns: dict[str, Ragged]
    cut: int


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    first: Sequence[str],
    second: Sequence[str] | None = None,
    *,
    max_length: int,
) -> EncodedTexts:
    """Encode texts, or pairs of them, with the tokenizer's special tokens around and between them.

    Of a pair that is too long the longer text is cut first. A tokenizer that adds no special tokens (GPT-2's) gets
    its end token behind each text, so that the two of a pair can be told apart. Special tokens spelt out in a text
    are read as ordinary text.

    Args:
        tokenizer: Any.
        first: One text a row.
        second: The other text of each row, or None.
        max_length: Positions of a row at most.
    """
    rows: dict[str, list[list[int]]] = {}
    cut = 0
    for start in range(0, len(first), ROWS_AT_ONCE):
        texts = [list(side[start : start + ROWS_AT_ONCE]) for side in (first, second) if side is not None]
        part, shortened = _encode(tokenizer, texts, max_length)
        cut += shortened
        for name, values in part.items():
            rows.setdefault(name, []).extend(values)
    return EncodedTexts({name: Ragged.of(values) for name, values in rows.items()}, cut)


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: list[list[str]], max_length: int
) -> tuple[dict[str, list[list[int]]], int]:
    if not tokenizer.num_special_tokens_to_add(pair=len(texts) > 1):
        return _with_ends(tokenizer, texts, max_length)
    encoded = _call(tokenizer, texts)
    long = [row for row, ids in enumerate(encoded["input_ids"]) if len(ids) > max_length]
    if long:
        shorter = _call(
            tokenizer, [[side[row] for row in long] for side in texts], truncation=True, max_length=max_length
        )
        for name, values in shorter.items():
            for row, value in zip(long, values, strict=True):
                encoded[name][row] = value
    return encoded, len(long)


def _with_ends(
    tokenizer: PreTrainedTokenizerBase, texts: list[list[str]], max_length: int
) -> tuple[dict[str, list[list[int]]], int]:
    end = end_of_document_id(tokenizer)
    sides = [_call(tokenizer, [side])["input_ids"] for side in texts]
    whole = [list(chain.from_iterable([*ids, end] for ids in row)) for row in zip(*sides, strict=True)]
    cut = sum(len(ids) > max_length for ids in whole)
    return {"input_ids": [ids if len(ids) <= max_length else [*ids[: max_length - 1], end] for ids in whole]}, cut


def _call(tokenizer: PreTrainedTokenizerBase, texts: list[list[str]], **more: Any) -> dict[str, list[list[int]]]:
    encoded = tokenizer(*texts, return_attention_mask=False, split_special_tokens=True, verbose=False, **more)
    return {name: list(encoded[name]) for name in ("input_ids", "token_type_ids") if name in encoded}


def fills(tokenizer: PreTrainedTokenizerBase, columns: Iterator[str] | Sequence[str]) -> dict[str, int]:
    """Return what fills up each column: the padding token, its type, -100 for labels."""
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_of_document_id(tokenizer)
    known = {"input_ids": pad, "token_type_ids": tokenizer.pad_token_type_id, "labels": -100}
    return {name: known[name] for name in columns}
