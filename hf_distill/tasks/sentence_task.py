"""Tasks with one answer a text, or a pair of texts: classes, or a number."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, EvalPrediction, PreTrainedTokenizerBase

from hf_distill.metrics.sentence_metrics import SentenceMetrics
from hf_distill.models.label_maps import order_of
from hf_distill.reading.signals import Head
from hf_distill.tasks.image_sources import class_numbers
from hf_distill.tasks.labelled_text import LabelledTextTask
from hf_distill.tasks.model_building import AutoClass
from hf_distill.tasks.table_sources import Table, TableSource
from hf_distill.tasks.table_task import Encoded
from hf_distill.tasks.text_rows import encode_texts, fills
from hf_distill.tasks.token_rows import RaggedExamples


@dataclass(kw_only=True)
class SentenceTask(LabelledTextTask):
    """One answer a text, or a pair of texts.

    Models: any of `AutoModelForSequenceClassification`.
    """

    greater_is_better: ClassVar[bool] = True

    @property
    def head(self) -> Head:
        """Classes, or a number."""
        return "classification" if self.class_columns()[2] else "regression"

    @property
    def metric(self) -> str:
        """The first of the metrics."""
        return self.metric_names()[0]

    @abstractmethod
    def metric_names(self) -> Sequence[str]:
        """Return the metrics, the one that is shown first."""

    @abstractmethod
    def class_columns(self) -> tuple[Sequence[str], str, bool]:
        """Return the columns of the text (one or two), that of the answer, and whether the answer is a class."""

    def score_range(self) -> tuple[float, float]:
        """Return the smallest and the largest number that can be an answer."""
        return -math.inf, math.inf

    def auto_class(self) -> AutoClass:
        """Return the class with one answer a text."""
        return AutoModelForSequenceClassification

    def answer_config(self) -> dict[str, Any]:
        """Return names of classes, or that the answer is a number."""
        if self.head == "regression":
            return {"num_labels": 1, "problem_type": "regression"}
        return super().answer_config()

    def read(self, source: TableSource, split: str) -> Table:
        """Return texts and answers of a split, classes by their number."""
        texts, label, is_class = self.class_columns()
        table = source.read(split, [*texts, label])
        for column in texts:
            check_texts(table, column)
        answers = self._classes(table, label) if is_class else self._scores(table, label)
        columns = {"first": table.columns[texts[0]], "answer": answers}
        if len(texts) > 1:
            columns["second"] = table.columns[texts[1]]
        return replace(table, columns=columns)

    def _classes(self, table: Table, label: str) -> list[int]:
        named = table.names.get(label)
        names = self.names_for(table.columns[label], named)
        # The table may number its classes in another order than the task.
        theirs = named if named and len(named) == len(names) else names
        numbers = class_numbers(table.columns[label], theirs, where=table.where)
        order = order_of(theirs, names)
        return numbers.tolist() if order is None else [order[number] for number in numbers]

    def names_for(self, labels: Sequence[Any], named: list[str] | None) -> list[str]:
        """Return the names of the classes, in the order of their numbers.

        Args:
            labels: The column of a split.
            named: The names that the table gives.

        Raises:
            ValueError: They are not known.
        """
        names = self.class_names()
        assert names is not None
        return names

    def _scores(self, table: Table, label: str) -> list[float]:
        lowest, highest = self.score_range()
        for row, value in enumerate(table.columns[label]):
            number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
            if not number or not lowest <= value <= highest:
                raise ValueError(
                    f"data: row {row} of {table.where} has the label {value!r}, which is no number between {lowest:g} "
                    f"and {highest:g}; unlabelled test splits hold -1. Choose a split with labels"
                )
        return [float(value) for value in table.columns[label]]

    def texts(self, table: Table) -> Sequence[str]:
        """Return every text."""
        return [*table.columns["first"], *table.columns.get("second", [])]

    def encode(self, table: Table, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Return token ids with the tokenizer's special tokens, and the answer."""
        encoded = encode_texts(
            tokenizer, table.columns["first"], table.columns.get("second"), max_length=self.max_length
        )
        kind = np.int64 if self.head == "classification" else np.float32
        answers: NDArray[Any] = np.array(table.columns["answer"], dtype=kind)
        examples = RaggedExamples(
            encoded.columns, fills=fills(tokenizer, list(encoded.columns)), per_example={"labels": answers}
        )
        return Encoded(table, examples, {"cut": encoded.cut})

    def metrics(self, encoded: Encoded) -> Callable[[EvalPrediction], dict[str, float]]:
        """Return the task's metrics, the same for every split."""
        return SentenceMetrics(tuple(self.metric_names()))

    def preprocessing(self) -> str:
        """Name the columns."""
        texts, _, _ = self.class_columns()
        return " and ".join(texts) + (" as a pair" if len(texts) > 1 else "")


def check_texts(table: Table, column: str) -> None:
    """Refuse a column that holds something else than text.

    Raises:
        ValueError: With the row.
    """
    for row, text in enumerate(table.columns[column]):
        if not isinstance(text, str):
            raise ValueError(f"data: row {row} of {table.where} has no text under {column!r} but {text!r}")
