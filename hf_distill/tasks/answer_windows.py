"""Questions with their contexts, cut into windows that a model can read, and where answers stand in them.

Shape legend: N questions, W windows, T positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from hf_distill.tasks.token_rows import Ragged
from hf_distill.tasks.word_tokens import check_fast

OUTSIDE = -1
QUESTIONS_AT_ONCE = 1000


class Span(NamedTuple):
    """An answer in its context: the letters from `start` up to, without, `end`."""

    start: int
    end: int


@dataclass(frozen=True)
class Windows:
    """All windows of some questions, in the order of the questions.

    Attributes:
        columns: "input_ids" and, where the tokenizer gives them, "token_type_ids".
        questions_W: The number of each window's question.
        starts: For each token its first letter in the context; -1 for tokens of the question and special tokens.
        ends: For each token the letter behind its last one; -1 likewise.
    """

    columns: dict[str, Ragged]
    questions_W: NDArray[np.int64]
    starts: Ragged
    ends: Ragged

    def inside(self, window: int) -> NDArray[np.bool_]:
        """Return which tokens of a window are of the context. Shapes: -> (T,)."""
        first, last = self.starts.starts[window : window + 2]
        return self.starts.values[first:last] != OUTSIDE

    def positions(self, spans: Sequence[Span]) -> NDArray[np.int64]:
        """Return first and last token of each window's answer; 0 and 0, the first token, where it is not inside.

        Args:
            spans: The answer of each question.

        Shapes: -> (W, 2).
        """
        found = np.zeros((len(self.questions_W), 2), dtype=np.int64)
        for window, (first, last) in enumerate(pairwise(self.starts.starts)):
            span = spans[self.questions_W[window]]
            found[window] = _tokens_of(span, self.starts.values[first:last], self.ends.values[first:last])
        return found


def _tokens_of(span: Span, starts_T: NDArray[np.int32], ends_T: NDArray[np.int32]) -> tuple[int, int]:
    context = np.flatnonzero(starts_T != OUTSIDE)
    if not context.size or starts_T[context[0]] > span.start or ends_T[context[-1]] < span.end:
        return 0, 0
    first = context[starts_T[context] <= span.start][-1]
    last = context[ends_T[context] >= span.end][0]
    return int(first), int(max(first, last))


def cut_questions(
    tokenizer: PreTrainedTokenizerBase, questions: Sequence[str], *, max_length: int
) -> tuple[list[str], int]:
    """Return questions of at most `max_length` tokens, and how many were cut, at the end."""
    check_fast(tokenizer)
    texts = [question.strip() for question in questions]
    encoded = tokenizer(
        texts, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True, verbose=False
    )["offset_mapping"]
    long = [row for row, offsets in enumerate(encoded) if len(offsets) > max_length]
    for row in long:
        texts[row] = texts[row][: encoded[row][max_length - 1][1]]
    return texts, len(long)


def windows_of(
    tokenizer: PreTrainedTokenizerBase,
    questions: Sequence[str],
    contexts: Sequence[str],
    *,
    max_length: int,
    stride: int,
) -> Windows:
    """Cut each context into windows of at most `max_length` tokens, the question in front of each.

    Args:
        tokenizer: A fast one that puts special tokens between question and context.
        questions: Short enough to leave room for more than `stride` tokens.
        contexts: One a question.
        max_length: Tokens of a window, those of the question included.
        stride: Tokens that neighbouring windows share.

    Raises:
        ValueError: The tokenizer is not such a one.
    """
    check_fast(tokenizer)
    if not tokenizer.num_special_tokens_to_add(pair=True):
        raise ValueError(
            "tokenizer: puts nothing between question and context; choose one with special tokens (BERT, XLM-R), or "
            "train one: {train: {kind: wordpiece}}"
        )
    columns: dict[str, list[list[int]]] = {}
    owners: list[int] = []
    starts: list[list[int]] = []
    ends: list[list[int]] = []
    for begin in range(0, len(questions), QUESTIONS_AT_ONCE):
        part = slice(begin, begin + QUESTIONS_AT_ONCE)
        encoded = _encoded(tokenizer, list(questions[part]), list(contexts[part]), max_length, stride)
        owners.extend(begin + row for row in encoded["overflow_to_sample_mapping"])
        for window, offsets in enumerate(encoded["offset_mapping"]):
            inside = [side == 1 for side in encoded.sequence_ids(window)]
            starts.append([o[0] if there else OUTSIDE for o, there in zip(offsets, inside, strict=True)])
            ends.append([o[1] if there else OUTSIDE for o, there in zip(offsets, inside, strict=True)])
        for name in ("input_ids", "token_type_ids"):
            if name in encoded:
                columns.setdefault(name, []).extend(encoded[name])
    ragged = {name: Ragged.of(rows) for name, rows in columns.items()}
    return Windows(ragged, np.array(owners, dtype=np.int64), Ragged.of(starts), Ragged.of(ends))


def _encoded(
    tokenizer: PreTrainedTokenizerBase, questions: list[str], contexts: list[str], max_length: int, stride: int
) -> Any:
    return tokenizer(
        questions,
        contexts,
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
        split_special_tokens=True,
    )
