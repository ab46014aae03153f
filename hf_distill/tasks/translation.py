"""Translation: IWSLT'14, WMT'17, Multi30k and their like, measured by sacreBLEU's BLEU and chrF."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from hf_distill.metrics.numbers_texts import chrf, sacre_bleu, signatures
from hf_distill.metrics.text_metrics import Score
from hf_distill.tasks.base import TASKS
from hf_distill.tasks.seq2seq_task import SOURCE, TARGET, Seq2SeqTask
from hf_distill.tasks.table_sources import Table, TableSource
from hf_distill.wording import given


@TASKS.register("translation")
@dataclass(kw_only=True)
class Translation(Seq2SeqTask):
    """Translate from one language into another.

    A row holds its text in each language, under `column` (the layout of WMT and IWSLT: {"translation": {"en": ...,
    "de": ...}}) or with `column: null` in columns of their own. BLEU and chrF are sacreBLEU's, their signatures are in
    the record.

    Models: any of `AutoModelForSeq2SeqLM`.
    """

    metric: ClassVar[str] = "bleu"

    source_lang: str = field(metadata={"help": "language of the source: a key under `column`, such as en"})
    target_lang: str = field(metadata={"help": "language of the target, such as de"})
    column: str | None = field(
        default="translation", metadata={"help": "column with a text per language; null: each is a column"}
    )
    lowercase: bool = field(
        default=False, metadata={"help": "read, write and compare lower-case text only, as IWSLT'14 papers do"}
    )
    bleu_tokenize: str = field(
        default="13a", metadata={"help": "how sacreBLEU cuts words: 13a, intl, zh, ja-mecab, ko-mecab, char, none"}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source_lang == self.target_lang:
            raise ValueError(f"target_lang: is the source's language, {self.source_lang!r}; give another one")

    def read(self, source: TableSource, split: str) -> Table:
        """Return the texts of a split in both languages."""
        pair = (self.source_lang, self.target_lang)
        if self.column is None:
            table = source.read(split, pair)
            rows: Sequence[Any] = [
                dict(zip(pair, texts, strict=True)) for texts in zip(*table.columns.values(), strict=True)
            ]
        else:
            table = source.read(split, [self.column])
            rows = table.columns[self.column]
        texts = [self._texts(row, number, table.where) for number, row in enumerate(rows)]
        return replace(table, columns={SOURCE: [pair[0] for pair in texts], TARGET: [pair[1] for pair in texts]})

    def _texts(self, row: Any, number: int, where: str) -> tuple[str, str]:
        if not isinstance(row, Mapping):
            raise ValueError(
                f"data: row {number} of {where} has no text per language under {self.column!r} but {given(row)}; set "
                "task.column, or null where each language is a column"
            )
        found = []
        for key, language in (("source_lang", self.source_lang), ("target_lang", self.target_lang)):
            text = row.get(language)
            if not isinstance(text, str):
                raise ValueError(
                    f"{key}: row {number} of {where} has no text in {language!r}; its languages are "
                    f"{', '.join(key for key, value in row.items() if isinstance(value, str)) or 'none'}"
                )
            found.append(text.lower() if self.lowercase else text)
        return found[0], found[1]

    def score(self) -> Score:
        """Return BLEU, chrF and the length of the texts ÷ that of the references."""
        lowercase, tokenize = self.lowercase, self.bleu_tokenize

        def scored(texts: Sequence[str], references: Sequence[str]) -> dict[str, float]:
            found = sacre_bleu(texts, references, lowercase=lowercase, tokenize=tokenize)
            letters = chrf(texts, references, lowercase=lowercase)
            return {"bleu": found["bleu"], "chrf": letters["chrf"], "length_ratio": found["length_ratio"]}

        return scored

    def preprocessing(self) -> str:
        """Name the languages."""
        case = ", in lower case" if self.lowercase else ""
        return f"{self.source_lang} to {self.target_lang}{case}"

    def about(self) -> dict[str, Any]:
        """Return the languages, and how BLEU and chrF are computed, in sacreBLEU's words."""
        return {
            "title": f"translation from {self.source_lang} to {self.target_lang}",
            "source_lang": self.source_lang,
            "target_lang": self.target_lang,
            "metric_signatures": signatures(lowercase=self.lowercase, tokenize=self.bleu_tokenize),
        }
