"""Questions whose answer is a span of a text: SQuAD 1.1, TyDiQA-GoldP and their like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from transformers import AutoModelForQuestionAnswering, EvalPrediction, PreTrainedTokenizerBase

from hf_distill.metrics.answer_metrics import AnswerMetrics
from hf_distill.reading.signals import Head
from hf_distill.strict_dataclass import from_mapping
from hf_distill.tasks.answer_windows import Span, Windows, cut_questions, windows_of
from hf_distill.tasks.base import TASKS
from hf_distill.tasks.generated_questions import GeneratedQuestions
from hf_distill.tasks.model_building import AutoClass
from hf_distill.tasks.multilingual import MultilingualTask
from hf_distill.tasks.sentence_task import check_texts
from hf_distill.tasks.table_sources import Table, TableSource, table_source
from hf_distill.tasks.table_task import Encoded
from hf_distill.tasks.text_rows import fills
from hf_distill.tasks.token_rows import RaggedExamples

SPECIAL_TOKENS = 4
"""Around and between question and context, at most."""


@TASKS.register("question_answering")
@dataclass(kw_only=True)
class QuestionAnswering(MultilingualTask):
    """Find the span of a context that answers a question.

    Long contexts are read in windows that overlap by `doc_stride` tokens; a window without the answer points to its
    first token in training, which no answer may be in evaluation. Measured by exact match and F1 as SQuAD 1.1
    defines them, as shares. Questions without an answer (SQuAD 2.0) are refused.

    Models: any of `AutoModelForQuestionAnswering`.
    """

    head: ClassVar[Head] = "question_answering"
    metric: ClassVar[str] = "f1"
    greater_is_better: ClassVar[bool] = True

    data: str | dict[str, Any] = field(  # type: ignore[assignment]
        default="generated",
        metadata={
            "help": "{hub: ORG/NAME, name, split, validation_split, revision}, {path: FOLDER} with train.jsonl and "
            "validation.jsonl in SQuAD's columns, `generated`, or {generated: {rows, validation_rows, facts, people}}"
        },
    )
    max_length: int = field(default=384, metadata={"help": "tokens of a window, those of the question included"})
    doc_stride: int = field(default=128, metadata={"help": "tokens that neighbouring windows of a context share"})
    max_question_length: int = field(default=64, metadata={"help": "tokens of a question; longer ones are cut"})
    n_best: int = field(default=20, metadata={"help": "starts and ends looked at in each window for the best answer"})
    max_answer_length: int = field(default=30, metadata={"help": "tokens of an answer at most"})

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("doc_stride", "max_question_length", "n_best", "max_answer_length"):
            if vars(self)[name] < 1:
                raise ValueError(f"{name}: expected at least 1, got {vars(self)[name]}")
        room = self.max_length - self.max_question_length - SPECIAL_TOKENS
        if room <= self.doc_stride:
            raise ValueError(
                f"doc_stride: a window of {self.max_length} tokens has {room} left beside a question of "
                f"{self.max_question_length}, and needs more than the {self.doc_stride} it shares with the next; "
                "raise max_length, or lower doc_stride or max_question_length"
            )

    def source(self) -> TableSource:
        """Return where questions are read from, or the generator."""
        if self.data == "generated":
            return GeneratedQuestions()
        if isinstance(self.data, Mapping) and "generated" in self.data:
            return from_mapping(GeneratedQuestions, self.data["generated"], path="data.generated")
        return table_source(self.data)  # type: ignore[arg-type]

    def auto_class(self) -> AutoClass:
        """Return the class with a start and an end."""
        return AutoModelForQuestionAnswering

    def columns(self) -> Sequence[str]:
        """Return SQuAD's columns."""
        return ["question", "context", "answers"]

    def texts(self, table: Table) -> Sequence[str]:
        """Return every question, and every context once."""
        return [*table.columns["question"], *dict.fromkeys(table.columns["context"])]

    def checked(self, table: Table) -> Table:
        """Return questions and contexts with the first answer's place and all accepted answers."""
        for column in ("question", "context"):
            check_texts(table, column)
        spans, accepted, moved = [], [], []
        for row, (context, answer) in enumerate(zip(table.columns["context"], table.columns["answers"], strict=True)):
            texts, starts = _answers(answer, table.where, row)
            start = _nearest(context, texts[0], starts[0])
            if start is None:
                raise ValueError(
                    f"data: row {row} of {table.where} has the answer {texts[0]!r}, which its context does not hold"
                )
            moved.append(start != starts[0])
            spans.append(Span(start, start + len(texts[0])))
            accepted.append(texts)
        kept = {name: table.columns[name] for name in ("question", "context")}
        return replace(table, columns={**kept, "span": spans, "accepted": accepted, "moved": moved})

    def encode(self, table: Table, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Return windows, with first and last token of the answer."""
        questions, cut = cut_questions(tokenizer, table.columns["question"], max_length=self.max_question_length)
        windows = windows_of(
            tokenizer, questions, table.columns["context"], max_length=self.max_length, stride=self.doc_stride
        )
        positions_W2 = windows.positions(table.columns["span"])
        examples = WindowExamples(windows, positions_W2, tokenizer)
        unanswered = len(set(range(len(table))) - set(windows.questions_W[positions_W2.any(-1)].tolist()))
        counted = {"windows": len(examples), "questions cut": cut, "answers in no window": unanswered}
        return Encoded(table, examples, {**counted, "answers moved": sum(table.columns["moved"])})

    def metrics(self, encoded: Encoded) -> Callable[[EvalPrediction], dict[str, float]]:
        """Return exact match and F1 of the answers found in the windows of a split."""
        assert isinstance(encoded.examples, WindowExamples)
        return AnswerMetrics(
            windows=encoded.examples.windows,
            contexts=encoded.table.columns["context"],
            accepted=encoded.table.columns["accepted"],
            positions_W2=encoded.examples.positions_W2,
            n_best=self.n_best,
            max_answer_length=self.max_answer_length,
        )

    def preprocessing(self) -> str:
        """Say how windows are cut."""
        return f"windows of question and context that share {self.doc_stride} tokens"


class WindowExamples(RaggedExamples):
    """Windows as examples, with what is needed to turn positions into text.

    Args:
        windows: The windows.
        positions_W2: First and last token of each window's answer.
        tokenizer: Fills windows up.
    """

    def __init__(self, windows: Windows, positions_W2: Any, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(
            windows.columns,
            fills=fills(tokenizer, list(windows.columns)),
            per_example={"start_positions": positions_W2[:, 0], "end_positions": positions_W2[:, 1]},
        )
        self.windows, self.positions_W2 = windows, np.asarray(positions_W2)


def _answers(answer: Any, where: str, row: int) -> tuple[list[str], list[int]]:
    given = answer if isinstance(answer, Mapping) else {}
    texts, starts = given.get("text"), given.get("answer_start")
    lists = isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts)
    if not lists or not all(isinstance(text, str) and text for text in texts or []):
        raise ValueError(
            f"data: row {row} of {where} has {answer!r} under 'answers'; expected {{text: [...], answer_start: [...]}}"
        )
    assert isinstance(texts, list) and isinstance(starts, list)
    if not texts:
        raise ValueError(
            f"data: row {row} of {where} has no answer; questions without one (SQuAD 2.0) are not supported"
        )
    return texts, starts


def _nearest(context: str, text: str, start: int) -> int | None:
    """Return where `text` stands in `context`: at `start`, or at the nearest other place; None where it does not."""
    if context[start : start + len(text)] == text and start >= 0:
        return start
    places = [place for place in range(len(context)) if context.startswith(text, place)]
    return min(places, key=lambda place: abs(place - start)) if places else None
