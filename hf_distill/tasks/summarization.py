"""Summarisation: CNN/DailyMail, XSum and their like, measured by ROUGE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import ClassVar

from hf_distill.metrics.numbers_texts import rouge
from hf_distill.metrics.text_metrics import Score
from hf_distill.tasks.base import TASKS
from hf_distill.tasks.sentence_task import check_texts
from hf_distill.tasks.seq2seq_task import SOURCE, TARGET, Seq2SeqTask
from hf_distill.tasks.table_sources import Table, TableSource


@TASKS.register("summarization")
@dataclass(kw_only=True)
class Summarization(Seq2SeqTask):
    """Write the summary of a text.

    ROUGE is Google's rouge-score, the mean F1 over texts. ROUGE-Lsum compares sentence by sentence: references that
    are to be divided have a line break behind each.

    Models: any of `AutoModelForSeq2SeqLM`.
    """

    metric: ClassVar[str] = "rougeL"

    text_column: str = field(default="article", metadata={"help": "column of the text"})
    summary_column: str = field(default="highlights", metadata={"help": "column of its summary"})
    use_stemmer: bool = field(
        default=True, metadata={"help": "compare English words without their endings; false for other languages"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text_column == self.summary_column:
            raise ValueError(f"summary_column: is the text's column, {self.text_column!r}; give another one")

    def read(self, source: TableSource, split: str) -> Table:
        """Return texts and summaries of a split."""
        table = source.read(split, [self.text_column, self.summary_column])
        for column in (self.text_column, self.summary_column):
            check_texts(table, column)
        columns = {SOURCE: table.columns[self.text_column], TARGET: table.columns[self.summary_column]}
        return replace(table, columns=columns)

    def score(self) -> Score:
        """Return ROUGE-1, -2, -L and -Lsum, and the mean number of words."""
        use_stemmer = self.use_stemmer

        def scored(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
            words = fmean(len(text.split()) for text in texts)
            return {**rouge(texts, references, use_stemmer=use_stemmer), "mean_words": words}

        return scored

    def preprocessing(self) -> str:
        """Name the columns."""
        return f"{self.text_column} to {self.summary_column}"
