"""Tables of labelled examples by split: a folder of JSON-lines files, or a data set of the Hub with these columns."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from hf_distill.strict_dataclass import from_mapping
from hf_distill.tasks.hub_data import HubData
from hf_distill.wording import did_you_mean, given

LANGUAGE = "{language}"
"""Stands in a folder's path or a configuration's name for the language."""
LABELS_FILE = "labels.json"


@dataclass(frozen=True)
class Table:
    """Some columns of one split.

    Attributes:
        columns: The values of each column, row by row.
        where: The split in words, for messages.
        names: Of the classes of columns that hold class numbers, as far as the source names them.
    """

    columns: dict[str, list[Any]]
    where: str
    names: dict[str, list[str]]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def take(self, rows: Sequence[int]) -> Table:
        """Return some of the rows, in this order."""
        return replace(self, columns={key: [values[row] for row in rows] for key, values in self.columns.items()})


@dataclass(frozen=True, kw_only=True)
class TableSource(ABC):
    """Something that tables are read from, split by split."""

    split: str = field(default="train", metadata={"help": "split to train on"})
    validation_split: str = field(default="validation", metadata={"help": "split held out"})

    @property
    @abstractmethod
    def source(self) -> str:
        """The source in words, for reports and cards."""

    @property
    @abstractmethod
    def datasets(self) -> list[str]:
        """Hub ids, with the commit read."""

    @property
    @abstractmethod
    def by_language(self) -> bool:
        """Whether each language is a table of its own."""

    @abstractmethod
    def in_language(self, language: str) -> TableSource:
        """Return the tables of one language, where each has its own."""

    @abstractmethod
    def read(self, split: str, columns: Sequence[str]) -> Table:
        """Return some columns of a split.

        Raises:
            ValueError: There is no such split or column, no row, or the source is out of reach.
        """


@dataclass(frozen=True, kw_only=True)
class LocalTables(TableSource):
    """A folder of JSON-lines files, one a split (`train.jsonl`), with the Hub's column names.

    `labels.json` beside them, where there is one, holds the names of the classes in the order of their numbers.
    """

    path: str = field(
        metadata={"help": "a folder with train.jsonl, validation.jsonl, ...; {language} stands for the language"}
    )

    @property
    def source(self) -> str:
        """The folder."""
        return f"tables of {self.path}"

    @property
    def datasets(self) -> list[str]:
        """Nothing of the Hub."""
        return []

    @property
    def by_language(self) -> bool:
        """Whether each language has a folder."""
        return LANGUAGE in self.path

    def in_language(self, language: str) -> TableSource:
        """Return the folder of one language."""
        return LocalTables(
            path=self.path.replace(LANGUAGE, language), split=self.split, validation_split=self.validation_split
        )

    def read(self, split: str, columns: Sequence[str]) -> Table:
        """Return some columns of a file; keys that a line has besides them are left out."""
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            raise ValueError(
                f"data.path: {self.path!r} is no folder; expected one with train.jsonl and validation.jsonl"
            )
        file = folder / f"{split}.jsonl"
        if not file.is_file():
            found = ", ".join(sorted(path.stem for path in folder.glob("*.jsonl"))) or "none"
            raise ValueError(f"data: {folder} has no {file.name}, so no split {split!r}. Its splits: {found}.")
        rows = _json_lines(file)
        if not rows:
            raise ValueError(f"data: {file} is empty; a split needs a row at least")
        for number, row in rows:
            missing = next((column for column in columns if column not in row), None)
            if missing is not None:
                hint = did_you_mean(missing, row)
                raise ValueError(
                    f"data: {file}, line {number}, has no column {missing!r}.{hint} Its columns: {', '.join(row)}."
                )
        names = self._names()
        return Table(
            {column: [row[column] for _, row in rows] for column in columns},
            str(file),
            dict.fromkeys(columns, names) if names else {},
        )

    def _names(self) -> list[str]:
        file = Path(self.path).expanduser() / LABELS_FILE
        if not file.is_file():
            return []
        names = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"data: {file} should be a list of the classes' names, got {given(names)}")
        return names


@dataclass(frozen=True, kw_only=True)
class HubTables(TableSource):
    """A data set of the Hub, read by `datasets.load_dataset` at a commit."""

    hub: str = field(metadata={"help": "id of a data set on the Hub, or a folder that load_dataset reads"})
    name: str | None = field(default=None, metadata={"help": "its configuration; {language} stands for the language"})
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit"})

    @property
    def source(self) -> str:
        """Its id with the commit, and its configuration."""
        return self._data.source + (f" ({self.name})" if self.name else "")

    @property
    def datasets(self) -> list[str]:
        """Its id with the commit."""
        return [self._data.source]

    @property
    def by_language(self) -> bool:
        """Whether each language has a configuration."""
        return LANGUAGE in (self.name or "")

    def in_language(self, language: str) -> TableSource:
        """Return the configuration of one language."""
        return HubTables(
            hub=self.hub,
            name=(self.name or "").replace(LANGUAGE, language),
            revision=self.revision,
            split=self.split,
            validation_split=self.validation_split,
        )

    def read(self, split: str, columns: Sequence[str]) -> Table:
        """Return some columns of a split at one commit."""
        rows = self._data.rows(split)
        for column in columns:
            if column not in rows.column_names:
                hint = did_you_mean(column, rows.column_names)
                raise ValueError(
                    f"data: {self.source}, split {split!r}, has no column {column!r}.{hint} Its columns: "
                    f"{', '.join(rows.column_names)}."
                )
        if not len(rows):
            raise ValueError(f"data: {self.source}, split {split!r}, is empty; a split needs a row at least")
        features = {column: _class_names(rows.features[column]) for column in columns}
        return Table(
            {column: list(rows[column][:]) for column in columns},
            f"{self.source}, split {split!r}",
            {column: names for column, names in features.items() if names},
        )

    @cached_property
    def _data(self) -> HubData:
        return HubData(
            self.hub,
            name=self.name,
            revision=self.revision,
            instead="read local files with the same columns: {path: FOLDER}",
        )


def table_source(spec: Mapping[str, Any]) -> TableSource:
    """Return the source that a recipe's `data:` names.

    Args:
        spec: `{"path": ...}` (see `LocalTables`) or `{"hub": ...}` (see `HubTables`).

    Raises:
        ValueError: None of them, or an unknown key or wrong type.
    """
    if isinstance(spec, Mapping) and "path" in spec:
        return from_mapping(LocalTables, spec, path="data")
    if isinstance(spec, Mapping) and "hub" in spec:
        return from_mapping(HubTables, spec, path="data")
    raise ValueError(f"data: expected {{path: FOLDER}} or {{hub: ORG/NAME}}, got {given(spec)}.")


def _json_lines(file: Path) -> list[tuple[int, dict[str, Any]]]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"data: {file} is not UTF-8 text ({error}); convert it first") from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"data: {file}, line {number}, is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ValueError(f"data: {file}, line {number}: expected columns and their values, got {given(row)}")
        rows.append((number, row))
    return rows


def _class_names(feature: Any) -> list[str]:
    from datasets import ClassLabel, Sequence

    inner = feature.feature if isinstance(feature, Sequence) else feature
    return list(inner.names) if isinstance(inner, ClassLabel) else []
