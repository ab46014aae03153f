"""Classes of texts, or pairs of texts, in any table with columns of text and a column of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hf_distill.tasks.base import TASKS
from hf_distill.tasks.sentence_task import SentenceTask


@TASKS.register("text_classification")
@dataclass(kw_only=True)
class TextClassification(SentenceTask):
    """Tell which of several classes a text, or a pair of texts, is of. Measured by accuracy and mean F1 of classes.

    The classes are `labels`, or the names that the data gives (ClassLabel on the Hub, `labels.json` beside local
    files), or the names in the training rows in alphabetical order.
    """

    text_columns: list[str] = field(
        default_factory=lambda: ["text"], metadata={"help": "column of the text, or both columns of a pair"}
    )
    label_column: str = field(default="label", metadata={"help": "column of the classes: numbers or names"})
    labels: list[str] | None = field(
        default=None, metadata={"help": "names of the classes in the order of their numbers"}
    )

    def __post_init__(self) -> None:
        if len(self.text_columns) not in (1, 2):
            raise ValueError(f"text_columns: expected one column, or two of a pair, got {self.text_columns}")
        if self.labels is not None and (len(self.labels) < 2 or len(set(self.labels)) < len(self.labels)):
            raise ValueError(f"labels: expected two different classes at least, got {self.labels}")
        super().__post_init__()
        self._names = self.labels

    def class_columns(self) -> tuple[Sequence[str], str, bool]:
        """Return the columns; the answer is a class."""
        return self.text_columns, self.label_column, True

    def class_names(self) -> list[str] | None:
        """Return the names, once the training split has been read."""
        return self._names

    def metric_names(self) -> Sequence[str]:
        """Return accuracy and mean F1."""
        return ("accuracy", "f1_macro")

    def names_for(self, labels: Sequence[Any], named: list[str] | None) -> list[str]:
        """Return the names given, those of the data, or those in the rows read first: the training split's."""
        if self._names is None:
            found = sorted({label for label in labels if isinstance(label, str)})
            self._names = named or found
            if len(self._names) < 2:
                raise ValueError(
                    f"labels: column {self.label_column!r} does not name its classes ({len(self._names)} found); "
                    "give their names in the order of their numbers"
                )
        return self._names
