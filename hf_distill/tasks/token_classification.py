"""Tags of words, such as named entities: WNUT-17, CoNLL-2003, PAN-X (WikiANN) and their like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from transformers import AutoModelForTokenClassification, EvalPrediction, PreTrainedTokenizerBase

from hf_distill.metrics.entity_metrics import EntityMetrics, best_tags
from hf_distill.models.label_maps import order_of
from hf_distill.reading.signals import IGNORE_INDEX, Head
from hf_distill.tasks.base import TASKS
from hf_distill.tasks.model_building import AutoClass
from hf_distill.tasks.multilingual import MultilingualTask
from hf_distill.tasks.table_sources import Table
from hf_distill.tasks.table_task import Encoded
from hf_distill.tasks.text_rows import fills
from hf_distill.tasks.token_rows import Ragged, RaggedExamples
from hf_distill.tasks.word_tokens import NO_WORD, word_tokens, words_found


@TASKS.register("token_classification")
@dataclass(kw_only=True)
class TokenClassification(MultilingualTask):
    """Tag each word of a sentence; the first token of a word answers for it.

    Measured by precision, recall and F1 of whole entities, as seqeval counts them. Words beyond `max_length` are
    counted in the record and have no part in the metrics, as is usual: raise `max_length` where there are many.

    Models: any of `AutoModelForTokenClassification`.
    """

    head: ClassVar[Head] = "token_classification"
    metric: ClassVar[str] = "f1"
    greater_is_better: ClassVar[bool] = True

    tokens_column: str = field(default="tokens", metadata={"help": "column of the words of a sentence"})
    tags_column: str = field(default="ner_tags", metadata={"help": "column of their tags: numbers or names"})
    labels: list[str] | None = field(
        default=None,
        metadata={"help": "names of the tags in the order of their numbers; default those that the data gives"},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels is not None and len(set(self.labels)) < max(len(self.labels), 2):
            raise ValueError(f"labels: expected two different tags at least, got {self.labels}")
        self._names = self.labels

    def auto_class(self) -> AutoClass:
        """Return the class with a tag for each token."""
        return AutoModelForTokenClassification

    def class_names(self) -> list[str] | None:
        """Return the tags' names, once the training split has been read."""
        return self._names

    def columns(self) -> Sequence[str]:
        """Return the columns of words and tags."""
        return [self.tokens_column, self.tags_column]

    def texts(self, table: Table) -> Sequence[str]:
        """Return each sentence."""
        return [" ".join(words) for words in table.columns["words"]]

    def checked(self, table: Table) -> Table:
        """Return words and tags by their numbers."""
        words, tags = table.columns[self.tokens_column], table.columns[self.tags_column]
        names = self._known_names(table)
        theirs = table.names.get(self.tags_column) or names
        order = order_of(theirs, names)
        numbers = {name: number for number, name in enumerate(names)}
        found = []
        for row, (sentence, marks) in enumerate(zip(words, tags, strict=True)):
            if len(sentence) != len(marks) or not all(isinstance(word, str) for word in sentence):
                raise ValueError(
                    f"data: row {row} of {table.where} has {len(sentence)} words and {len(marks)} tags, or a word "
                    "that is no text"
                )
            found.append([self._number(mark, numbers, order, table.where, row) for mark in marks])
        return replace(table, columns={"words": [list(sentence) for sentence in words], "tags": found})

    def _known_names(self, table: Table) -> list[str]:
        if self._names is None:
            spelt = {mark for marks in table.columns[self.tags_column] for mark in marks if isinstance(mark, str)}
            names = table.names.get(self.tags_column) or sorted(spelt)
            if len(names) < 2:
                raise ValueError(
                    f"labels: {table.where} does not name the tags under {self.tags_column!r}; give their names in "
                    "the order of their numbers (beside local files: labels.json)"
                )
            self._names = names
        return self._names

    def _number(self, mark: Any, numbers: dict[str, int], order: Sequence[int] | None, where: str, row: int) -> int:
        number = numbers.get(mark) if isinstance(mark, str) else mark
        if not isinstance(number, int) or not 0 <= number < len(numbers):
            raise ValueError(
                f"data: row {row} of {where} has the tag {mark!r}, which is none of the {len(numbers)} "
                f"({', '.join(numbers)}). Choose a split with tags, or name them all in `labels`"
            )
        return number if order is None or isinstance(mark, str) else order[number]

    def encode(self, table: Table, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Return token ids, and the tag of each word at its first token."""
        sentences = table.columns["words"]
        columns, words = word_tokens(tokenizer, sentences, max_length=self.max_length)
        lengths = np.fromiter((len(sentence) for sentence in sentences), dtype=np.int64, count=len(sentences))
        flat = np.array([tag for tags in table.columns["tags"] for tag in tags], dtype=np.int32)
        first_word = np.repeat(np.cumsum(lengths) - lengths, words.lengths)
        place = np.where(words.values == NO_WORD, 0, words.values + first_word)
        labels = np.where(words.values == NO_WORD, IGNORE_INDEX, flat[place]).astype(np.int32)
        columns = {**columns, "labels": Ragged(labels, words.starts)}
        missing = lengths - words_found(words)
        counted = {"sentences cut": int((missing > 0).sum()), "words cut": int(missing.sum())}
        return Encoded(table, RaggedExamples(columns, fills=fills(tokenizer, list(columns))), counted)

    def metrics(self, encoded: Encoded) -> Callable[[EvalPrediction], dict[str, float]]:
        """Return precision, recall and F1 of entities."""
        assert self._names is not None
        return EntityMetrics(tuple(self._names))

    def shrink_logits(self) -> Callable[[Any, Any], Any] | None:
        """Gather the best tag of each position only."""
        return best_tags

    def preprocessing(self) -> str:
        """Say where labels stand."""
        return f"{self.tokens_column} put together with spaces; the first token of a word carries its tag"
