"""Where text comes from: the standard library's documentation, local files, or a data set on the Hub."""

from __future__ import annotations

import json
import platform
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_distill.strict_dataclass import from_mapping
from hf_distill.tasks.hub_data import HubData, check_column
from hf_distill.tasks.lazy_texts import JoinedTexts, SelectedTexts
from hf_distill.tasks.python_docs import python_docs
from hf_distill.wording import did_you_mean, given


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Documents as they were read.

    Attributes:
        train: Documents to train on.
        validation: Held-out documents, or None where the source has no split of its own.
        source: The source in words, for reports and cards.
        datasets: Hub ids, with the commit read.
    """

    train: Sequence[str]
    validation: Sequence[str] | None = None
    source: str
    datasets: list[str] = field(default_factory=list)


class TextSource(ABC):
    """Something that documents are read from."""

    @abstractmethod
    def read(self) -> Corpus:
        """Return the documents.

        Raises:
            ValueError: There is nothing to read, or it is not what it should be.
        """


@dataclass(frozen=True, kw_only=True)
class PythonDocs(TextSource):
    """Docstrings and help topics of the running Python's standard library."""

    def read(self) -> Corpus:
        """Return what the running Python documents: another version, another text."""
        version = platform.python_version()
        return Corpus(train=python_docs(), source=f"python-docs (docstrings and help topics of Python {version})")


@dataclass(frozen=True, kw_only=True)
class LocalText(TextSource):
    """Files of one's own: .txt holds documents separated by blank lines, .jsonl one document a line."""

    path: str = field(metadata={"help": "a .txt or .jsonl file, or a folder of them (read in order of their names)"})
    validation_path: str | None = field(default=None, metadata={"help": "the same, held out; else a share is"})
    column: str = field(default="text", metadata={"help": "key of the text in .jsonl lines"})

    def read(self) -> Corpus:
        """Return the documents of the files, with a split where `validation_path` gives one."""
        held_out = None if self.validation_path is None else self._documents(self.validation_path, "validation_path")
        return Corpus(train=self._documents(self.path, "path"), validation=held_out, source=f"text of {self.path}")

    def _documents(self, path: str, key: str) -> list[str]:
        root = Path(path).expanduser()
        if not root.exists():
            raise ValueError(
                f"data.{key}: {path!r} does not exist; expected a .txt or .jsonl file or a folder of them"
            )
        files = sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root]
        files = [file for file in files if file.suffix in (".txt", ".jsonl")]
        documents = [text for file in files for text in self._documents_of(file)]
        if not documents:
            raise ValueError(
                f"data.{key}: no text in {path!r}: {len(files)} .txt and .jsonl files, none with a document"
            )
        return documents

    def _documents_of(self, file: Path) -> Iterator[str]:
        try:
            content = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"data.path: {file} is not UTF-8 text ({error}); convert it first") from error
        texts = self._json_lines(file, content) if file.suffix == ".jsonl" else _paragraphs(content)
        return (text for text in texts if text.strip())

    def _json_lines(self, file: Path, content: str) -> Iterator[str]:
        for number, line in enumerate(content.split("\n"), start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"data.path: {file}, line {number}, is not JSON: {error}") from error
            text = row.get(self.column) if isinstance(row, dict) else None
            if not isinstance(text, str):
                keys = ", ".join(row) if isinstance(row, dict) else "none"
                raise ValueError(
                    f"data.column: {file}, line {number}, has no text under {self.column!r}; its keys: {keys}"
                )
            yield text


@dataclass(frozen=True, kw_only=True)
class HubText(TextSource):
    """A data set of the Hub, read by `datasets.load_dataset` at a commit."""

    hub: str = field(metadata={"help": "id of a data set on the Hub, or a folder that load_dataset reads"})
    name: str | None = field(default=None, metadata={"help": "its configuration"})
    split: str = field(default="train", metadata={"help": "split to train on, such as train or train[:10000]"})
    validation_split: str | None = field(default=None, metadata={"help": "split held out; else a share of `split` is"})
    column: str = field(default="text", metadata={"help": "column of the text"})
    revision: str | None = field(default=None, metadata={"help": "branch, tag or commit"})

    def read(self) -> Corpus:
        """Return the texts of a column at one commit, empty ones left out."""
        data = HubData(
            self.hub,
            name=self.name,
            revision=self.revision,
            instead="train on local files: {path: FOLDER, column: text}",
        )
        held_out = None if self.validation_split is None else self._texts(data, self.validation_split)
        train = self._texts(data, self.split)
        return Corpus(train=train, validation=held_out, source=data.source, datasets=[data.source])

    def _texts(self, data: HubData, split: str) -> Sequence[str]:
        rows = data.rows(split)
        check_column(rows, self.column, key="data.column", source=self.hub)
        # The texts stay in the data set's memory-mapped files: an encyclopaedia need not fit into memory.
        column = rows[self.column]
        return SelectedTexts(
            column, [index for index, text in enumerate(column) if isinstance(text, str) and text.strip()]
        )


@dataclass(frozen=True, kw_only=True)
class JoinedSources(TextSource):
    """Several sources, one behind the other."""

    sources: tuple[TextSource, ...]

    def read(self) -> Corpus:
        """Return the documents of all sources; where only some have a split of their own, it is refused.

        Raises:
            ValueError: Some have a held-out split and others none.
        """
        corpora = [source.read() for source in self.sources]
        held_out = [corpus.validation for corpus in corpora if corpus.validation is not None]
        if held_out and len(held_out) < len(corpora):
            raise ValueError(
                f"data: {len(held_out)} of {len(corpora)} sources have held-out text of their own; give all of them "
                "one (validation_path, validation_split), or none, and a share of all is held out"
            )
        return Corpus(
            train=JoinedTexts([corpus.train for corpus in corpora]),
            validation=JoinedTexts(held_out) if held_out else None,
            source=" + ".join(corpus.source for corpus in corpora),
            datasets=[one for corpus in corpora for one in corpus.datasets],
        )


def text_source(spec: str | Mapping[str, Any] | Sequence[Any]) -> TextSource:
    """Return the source that a recipe's `data:` names.

    Args:
        spec: "python-docs", `{"path": ...}` (see `LocalText`), `{"hub": ...}` (see `HubText`), or a list of them.

    Raises:
        ValueError: None of them, or an unknown key or wrong type.
    """
    if spec == "python-docs":
        return PythonDocs()
    if isinstance(spec, Mapping) and "path" in spec:
        return from_mapping(LocalText, spec, path="data")
    if isinstance(spec, Mapping) and "hub" in spec:
        return from_mapping(HubText, spec, path="data")
    if isinstance(spec, list) and spec:
        return JoinedSources(sources=tuple(text_source(one) for one in spec))
    hint = did_you_mean(spec, ["python-docs"]) if isinstance(spec, str) else ""
    raise ValueError(f"data: expected `python-docs`, {{path: FOLDER}} or {{hub: ORG/NAME}}, got {given(spec)}.{hint}")


def _paragraphs(content: str) -> Iterator[str]:
    lines: list[str] = []
    for line in content.splitlines():
        if line.strip():
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)
