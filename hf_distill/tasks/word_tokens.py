"""Which token stands for which word: the first of a word's tokens carries its label."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hf_distill.tasks.text_rows import ROWS_AT_ONCE
from hf_distill.tasks.token_rows import Ragged

NO_WORD = -1


class WordTokens(NamedTuple):
    """Sentences as tokens.

    Attributes:
        columns: "input_ids" and, where the tokenizer gives them, "token_type_ids".
        words: For each token the number of the word whose first token it is, -1 for all others.
    """

    columns: dict[str, Ragged]
    words: Ragged


def word_tokens(
    tokenizer: PreTrainedTokenizerBase, sentences: Sequence[Sequence[str]], *, max_length: int
) -> WordTokens:
    """Encode sentences of words, put together with spaces, and find the first token of each word.

    So a tokenizer sees the text as it is written, whether it marks spaces or the insides of words. Words beyond
    `max_length` tokens, and words of which a tokenizer leaves nothing, have no token.

    Args:
        tokenizer: A fast one, which says where its tokens stand in the text.
        sentences: The words of each.
        max_length: Tokens of a sentence at most.

    Raises:
        ValueError: The tokenizer is not a fast one.
    """
    check_fast(tokenizer)
    columns: dict[str, list[list[int]]] = {}
    words: list[list[int]] = []
    for start in range(0, len(sentences), ROWS_AT_ONCE):
        part = sentences[start : start + ROWS_AT_ONCE]
        encoded = tokenizer(
            [" ".join(sentence) for sentence in part],
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
            return_offsets_mapping=True,
            split_special_tokens=True,
        )
        words.extend(
            _first_tokens(offsets, _words_of_letters(sentence))
            for offsets, sentence in zip(encoded["offset_mapping"], part, strict=True)
        )
        for name in ("input_ids", "token_type_ids"):
            if name in encoded:
                columns.setdefault(name, []).extend(encoded[name])
    return WordTokens({name: Ragged.of(rows) for name, rows in columns.items()}, Ragged.of(words))


def check_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that does not say where its tokens stand in the text.

    Raises:
        ValueError: It is not a fast one.
    """
    if not tokenizer.is_fast:
        raise ValueError(
            f"tokenizer: {type(tokenizer).__name__} does not say where in the text its tokens stand; choose one with "
            "a tokenizer.json"
        )


def _words_of_letters(sentence: Sequence[str]) -> NDArray[np.int32]:
    """Return for each letter of the joined sentence the number of its word, -1 for spaces between."""
    counts = np.fromiter((len(word) + 1 for word in sentence), dtype=np.int64, count=len(sentence))
    numbers = np.repeat(np.arange(len(sentence), dtype=np.int32), counts)
    numbers[np.cumsum(counts) - 1] = NO_WORD
    return numbers


def _first_tokens(offsets: Sequence[tuple[int, int]], letters: NDArray[np.int32]) -> list[int]:
    # A token may begin with the space before its word, so that its last letter tells the word.
    found = [int(letters[end - 1]) if end > start else NO_WORD for start, end in offsets]
    highest = NO_WORD
    firsts = []
    for word in found:
        firsts.append(word if word > highest else NO_WORD)
        highest = max(highest, word)
    return firsts


def words_found(words: Ragged) -> NDArray[np.int64]:
    """Return how many words of each sentence have a token. Shapes: -> (N,)."""
    return np.array([int((words.values[a:b] != NO_WORD).sum()) for a, b in pairwise(words.starts)], dtype=np.int64)
