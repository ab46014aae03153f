"""Tasks that are trained on one language and looked at in others, zero-shot, when training has ended."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from hf_distill.tasks.labelled_text import LabelledTextTask
from hf_distill.tasks.table_sources import LANGUAGE, Table, TableSource
from hf_distill.tasks.table_task import Further

LANGUAGES = "languages"
"""The group of the evaluation languages: `f1_mean_languages` is the mean over them."""
_MOST_NAMED = 12


@dataclass(kw_only=True)
class MultilingualTask(LabelledTextTask):
    """A task on tables of one language, or of several.

    Languages are tables of their own (`{language}` in the configuration's name or the folder's path), or rows of one
    table (`language_column`).
    """

    language: str | None = field(
        default=None, metadata={"help": "train and hold out in this language only, where the data has several"}
    )
    evaluation_languages: list[str] = field(
        default_factory=list,
        metadata={"help": "looked at once at the end, each for itself (`f1_<language>`) and in the mean"},
    )
    evaluation_split: str = field(default="test", metadata={"help": "split of the evaluation languages"})
    language_column: str | None = field(
        default=None,
        metadata={
            "help": "column with the language of a row, or with an id that begins with it and a hyphen; where each "
            "language is a table of its own write {language} into `data` instead"
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        by_table = self.source().by_language
        if by_table and self.language_column is not None:
            raise ValueError(f"language_column: data has {LANGUAGE} already; leave one of them out")
        if by_table and self.language is None:
            raise ValueError(f"language: data has {LANGUAGE}; say which language to train on")
        if (self.language or self.evaluation_languages) and not by_table and self.language_column is None:
            raise ValueError(
                f"language: nothing says which language a row is of; write {LANGUAGE} into data.name or data.path, or "
                "set language_column"
            )
        if len(set(self.evaluation_languages)) < len(self.evaluation_languages):
            raise ValueError(f"evaluation_languages: one stands twice in {self.evaluation_languages}")

    @abstractmethod
    def columns(self) -> Sequence[str]:
        """Return the columns that the task looks at."""

    @abstractmethod
    def checked(self, table: Table) -> Table:
        """Return a table, checked; classes are numbers of `class_names`.

        Raises:
            ValueError: A row is not what it should be.
        """

    def training_source(self) -> TableSource:
        """Return the tables of the training language."""
        return self._of(self.language)

    def read(self, source: TableSource, split: str) -> Table:
        """Return a split in the training language."""
        return self.checked(self._rows(source, split, self.language))

    def further(self, source: TableSource) -> dict[str, Further]:
        """Add the evaluation languages."""
        tables = {
            language: self.checked(self._rows(self._of(language), self.evaluation_split, language))
            for language in self.evaluation_languages
        }
        return super().further(source) | {name: Further(table, LANGUAGES) for name, table in tables.items()}

    def _of(self, language: str | None) -> TableSource:
        source = self.source()
        return source.in_language(language) if language is not None and source.by_language else source

    def _rows(self, source: TableSource, split: str, language: str | None) -> Table:
        if self.language_column is None or language is None:
            return source.read(split, self.columns())
        table = source.read(split, [*dict.fromkeys([*self.columns(), self.language_column])])
        marks = [str(mark) for mark in table.columns[self.language_column]]
        rows = [row for row, mark in enumerate(marks) if mark == language or mark.startswith(f"{language}-")]
        if not rows:
            found = sorted({mark.split("-")[0] for mark in marks})
            named = ", ".join(found[:_MOST_NAMED]) + (", …" if len(found) > _MOST_NAMED else "")
            raise ValueError(f"data: {table.where} has no row in the language {language!r}; it has {named}")
        return table.take(rows)
