"""What tasks on tables of text share: the data's splits, the tokenizer, how many rows, what is held out."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from transformers import EvalPrediction, PreTrainedTokenizerBase

from hf_distill.tasks.base import HeldOut, Task, TaskData
from hf_distill.tasks.table_sources import Table, TableSource, table_source
from hf_distill.tasks.token_rows import RaggedCollator, RaggedExamples
from hf_distill.tasks.tokenizer_training import tokenizer_source


class Encoded(NamedTuple):
    """One split, ready for a model.

    Attributes:
        table: Its rows.
        examples: What a model reads; a row may be several of them.
        counted: What became of the rows, counted in words of the task ("cut": rows that were too long, ...).
        tokenizer: Turns what a model writes back into text; None where it writes none.
    """

    table: Table
    examples: RaggedExamples
    counted: dict[str, int]
    tokenizer: PreTrainedTokenizerBase | None = None


class Further(NamedTuple):
    """A further table, for the end of a training, and the group it is averaged with."""

    table: Table
    group: str | None = None


class PreparedTables(NamedTuple):
    """What a task makes of its data, whatever the training seed."""

    tokenizer: PreTrainedTokenizerBase
    train: Encoded
    validation: Encoded
    further: dict[str, tuple[Encoded, str | None]]


@dataclass(kw_only=True)
class TableTask(Task):
    """A task on tables of text."""

    data: dict[str, Any] = field(
        default_factory=dict,
        metadata={
            "help": "{hub: ORG/NAME, name, split, validation_split, revision}, or {path: FOLDER} with train.jsonl and "
            "validation.jsonl of the same columns"
        },
    )
    tokenizer: dict[str, Any] = field(
        default_factory=lambda: {"train": {"kind": "wordpiece", "vocab_size": 4096}},
        metadata={"help": "{pretrained: ORG/NAME, revision} or {train: {kind: wordpiece or bpe, vocab_size}}"},
    )
    train_examples: int | None = field(
        default=None, metadata={"help": "train on so many rows only, spread evenly over the split; default on all"}
    )
    validation_examples: int | None = field(
        default=None, metadata={"help": "hold out so many rows only, spread evenly over the split; default all"}
    )
    further_splits: list[str] = field(
        default_factory=list,
        metadata={"help": "more labelled splits, looked at once at the end of a training (`<metric>_<split>`)"},
    )

    def __post_init__(self) -> None:
        for name in ("train_examples", "validation_examples"):
            number = vars(self)[name]
            if number is not None and number < 1:
                raise ValueError(f"{name}: expected at least 1, got {number}")
        self.source()
        tokenizer_source(self.tokenizer)
        # Read and encoded once: a comparison prepares its task for every seed and every curriculum.
        self._prepared: dict[Path, PreparedTables] = {}

    # ---- what a task says ----

    @abstractmethod
    def read(self, source: TableSource, split: str) -> Table:
        """Return a split with the columns that the task looks at, checked; classes are numbers of `class_names`.

        Raises:
            ValueError: A column is missing, or a label is not what it should be.
        """

    @abstractmethod
    def texts(self, table: Table) -> Sequence[str]:
        """Return the texts that a tokenizer is learnt from."""

    @abstractmethod
    def encode(self, table: Table, tokenizer: PreTrainedTokenizerBase) -> Encoded:
        """Return a table as a model reads it.

        Raises:
            ValueError: The tokenizer is not one for this.
        """

    def fitting(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
        """Return the tokenizer as the task's models are saved with it.

        Raises:
            ValueError: It is none for this task.
        """
        return tokenizer

    @abstractmethod
    def metrics(self, encoded: Encoded) -> Callable[[EvalPrediction], dict[str, float]]:
        """Return what measures predictions for a split."""

    @abstractmethod
    def preprocessing(self) -> str:
        """Return in words what happens to a row."""

    def table_spec(self) -> Mapping[str, Any]:
        """Return `data` with what the task knows of it."""
        return self.data

    def class_names(self) -> list[str] | None:
        """Return the names of the classes, in the order of their numbers; None where answers are no classes.

        Known once the data has been read.
        """
        return None

    @abstractmethod
    def limits(self) -> dict[str, int]:
        """Return how many tokens there may be, by the name of the field that says so."""

    @abstractmethod
    def limits_text(self) -> str:
        """Return the limits in words."""

    def about(self) -> dict[str, Any]:
        """Return what else there is to say of the task, ready for JSON."""
        return {}

    def source(self) -> TableSource:
        """Return where tables are read from.

        Raises:
            ValueError: `data` names nothing that tables are read from.
        """
        return table_source(self.table_spec())

    def training_source(self) -> TableSource:
        """Return where the training and validation splits are read from."""
        return self.source()

    def further(self, source: TableSource) -> dict[str, Further]:
        """Return further held-out tables by the name that their metrics carry."""
        tables = {split: self.read(source, split) for split in self.further_splits}
        return {split.removeprefix("validation_"): Further(table) for split, table in tables.items()}

    def shrink_logits(self) -> Callable[[Any, Any], Any] | None:
        """Return the Trainer's `preprocess_logits_for_metrics`."""
        return None

    # ---- what the trainer asks ----

    def prepare(self, *, seed: int, cache_dir: Path) -> TaskData:
        """Read and encode the tables once for all seeds and curricula: no example depends on the seed."""
        source = self.training_source()
        prepared = self._prepare(source, Path(cache_dir))
        train, validation = prepared.train, prepared.validation
        return TaskData(
            train=train.examples,
            validation=validation.examples,
            collator=RaggedCollator(fills=train.examples.fills),
            processing_class=prepared.tokenizer,
            compute_metrics=self.metrics(validation),
            preprocess_logits_for_metrics=self.shrink_logits(),
            fingerprint=self._fingerprint(prepared),
            description=self._description(source, prepared),
            further={
                name: HeldOut(examples=encoded.examples, compute_metrics=self.metrics(encoded), group=group)
                for name, (encoded, group) in prepared.further.items()
            },
        )

    # ---- once ----

    def _prepare(self, source: TableSource, cache_dir: Path) -> PreparedTables:
        if cache_dir not in self._prepared:
            train = self._some(self.read(source, source.split), self.train_examples, "train_examples")
            validation = self.read(source, source.validation_split)
            validation = self._some(validation, self.validation_examples, "validation_examples")
            further = self.further(source)
            tokenizer = tokenizer_source(self.tokenizer).load(self.texts(train), cache_dir=cache_dir)
            tokenizer = self.fitting(tokenizer)
            self._prepared[cache_dir] = PreparedTables(
                tokenizer,
                self.encode(train, tokenizer),
                self.encode(validation, tokenizer),
                {name: (self.encode(one.table, tokenizer), one.group) for name, one in further.items()},
            )
        return self._prepared[cache_dir]

    def _some(self, table: Table, wanted: int | None, key: str) -> Table:
        if wanted is None:
            return table
        if wanted > len(table):
            raise ValueError(f"{key}: {wanted} asked for, but {table.where} has {len(table)}")
        return table.take(evenly(len(table), wanted).tolist())

    def _fingerprint(self, prepared: PreparedTables) -> str:
        # What the examples are, not where they came from: a moved folder is the same data.
        settings = {key: value for key, value in asdict(self).items() if key not in ("data", "tokenizer")}
        digest = hashlib.sha256(json.dumps([type(self).__name__, settings], sort_keys=True).encode())
        digest.update(json.dumps([prepared.tokenizer.get_vocab(), self.class_names()], sort_keys=True).encode())
        for encoded in (prepared.train, prepared.validation):
            digest.update(encoded.examples.digest().encode())
        return digest.hexdigest()

    def _description(self, source: TableSource, prepared: PreparedTables) -> dict[str, Any]:
        names, sides = self.class_names(), {"train": prepared.train, "validation": prepared.validation}
        counted = {name: side.counted for name, side in sides.items()}
        found = [(count, what, name) for name in sides for what, count in counted[name].items() if count]
        in_words = ", ".join(f"{count} {what} in {name}" for count, what, name in found)
        counted |= {name: encoded.counted for name, (encoded, _) in prepared.further.items()}
        return {
            "datasets": source.datasets,
            "source": source.source,
            "preprocessing": f"{self.preprocessing()}; {self.limits_text()} ({in_words or 'none cut'})",
            "tokenizer": self.tokenizer,
            "vocabulary": len(prepared.tokenizer),
            **self.limits(),
            "train_rows": len(prepared.train.table),
            "validation_rows": len(prepared.validation.table),
            "train_tokens": int(prepared.train.examples.lengths.sum()),
            "validation_tokens": int(prepared.validation.examples.lengths.sum()),
            "counted": counted,
            "further_rows": {name: len(encoded.table) for name, (encoded, _) in prepared.further.items()},
            **({"labels": names} if names is not None else {}),
            **self.about(),
        }


def evenly(count: int, wanted: int) -> NDArray[np.int64]:
    """Return which `wanted` of `count` rows to take, spread evenly over all."""
    return np.arange(wanted) * count // wanted
