"""Questions about generated facts: a small SQuAD for any machine, in which every answer is a span of its context.

A context tells several facts about several people, among them the same kind of fact about two of them, so that a
reader has to match person and kind: `Where does Ada live?` beside `Ada lives in New Lima.` and `Bo lives in Oslo.`
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from hf_distill.tasks.table_sources import Table, TableSource

PEOPLE = (
    "Ada",
    "Bo",
    "Cleo",
    "Dan",
    "Eve",
    "Finn",
    "Gus",
    "Hana",
    "Ivo",
    "Jun",
    "Kim",
    "Lea",
    "Max",
    "Noa",
    "Oda",
    "Pia",
)


class Kind(NamedTuple):
    """One kind of fact: how it is told, how it is asked for, and what answers are made of."""

    told: str
    asked: str
    parts: tuple[tuple[str, ...], ...]


def kinds() -> tuple[Kind, ...]:
    """Return the kinds of facts."""
    cities = ("Lima", "Oslo", "Rome", "Cairo", "Delhi", "Quito", "Paris", "Tokyo")
    animals = ("cats", "dogs", "geese", "goats", "hens", "mice")
    colours = ("red", "green", "blue", "white", "black", "grey")
    return (
        Kind("{} lives in {}.", "Where does {} live?", (("New", "Old", "North", "South"), cities)),
        Kind("{} works as a {}.", "What does {} work as?", (("baker", "pilot", "nurse", "judge", "cook", "vet"),)),
        Kind("{} keeps {}.", "What does {} keep?", (("two", "three", "four", "five", "six"), animals)),
        Kind("{} drives a {}.", "What does {} drive?", (colours, ("bus", "car", "truck", "van"))),
        Kind("{} was born in {}.", "When was {} born?", (tuple(str(year) for year in range(1950, 2000, 3)),)),
    )


@dataclass(frozen=True, kw_only=True)
class GeneratedQuestions(TableSource):
    """Facts and questions that follow from a seed; a row depends on seed, split and its number only."""

    rows: int = field(default=2000, metadata={"help": "questions to train on"})
    validation_rows: int = field(default=400, metadata={"help": "questions held out; as many in every further split"})
    facts: int = field(default=6, metadata={"help": "sentences of a context"})
    people: int = field(default=3, metadata={"help": "people that a context is about"})
    names: int = field(default=len(PEOPLE), metadata={"help": "people there are in all contexts"})
    seed: int = field(default=0, metadata={"help": "of all of them"})

    def __post_init__(self) -> None:
        most = self.people * len(kinds())
        if not 1 <= self.people <= self.names <= len(PEOPLE):
            raise ValueError(
                f"people: expected 1 ≤ people ≤ names ≤ {len(PEOPLE)}, got {self.people} of {self.names} names"
            )
        if not 1 <= self.facts <= most:
            raise ValueError(f"facts: {self.people} people have 1 to {most} facts, got {self.facts}")
        if min(self.rows, self.validation_rows) < 1:
            raise ValueError(f"rows, validation_rows: expected at least 1, got {self.rows}, {self.validation_rows}")

    @property
    def source(self) -> str:
        """What is generated."""
        return f"generated questions ({self.facts} facts about {self.people} people, seed {self.seed})"

    @property
    def datasets(self) -> list[str]:
        """Nothing of the Hub."""
        return []

    @property
    def by_language(self) -> bool:
        """Whether each language has its own; all are in English."""
        return False

    def in_language(self, language: str) -> TableSource:
        """Return the same: there is one language."""
        return self

    def read(self, split: str, columns: Sequence[str]) -> Table:
        """Return rows in SQuAD's layout."""
        stream = int.from_bytes(split.encode(), "big")
        count = self.rows if split == self.split else self.validation_rows
        rows = [self._row(np.random.default_rng([self.seed, stream, number]), number) for number in range(count)]
        return Table({column: [row[column] for row in rows] for column in columns}, f"generated split {split!r}", {})

    def _row(self, generator: np.random.Generator, number: int) -> Mapping[str, Any]:
        every = kinds()
        people = [PEOPLE[place] for place in generator.permutation(self.names)[: self.people]]
        chosen = generator.permutation(self.people * len(every))[: self.facts]
        facts = []
        for place in chosen.tolist():
            person, kind = people[place // len(every)], every[place % len(every)]
            value = " ".join(part[int(generator.integers(len(part)))] for part in kind.parts)
            facts.append((kind.told.format(person, value), kind.asked.format(person), value))
        context = " ".join(told for told, _, _ in facts)
        told, asked, value = facts[int(generator.integers(len(facts)))]
        start = context.index(told) + told.rindex(value)
        return {
            "id": str(number),
            "title": ", ".join(people),
            "context": context,
            "question": asked,
            "answers": {"text": [value], "answer_start": [start]},
        }
