"""Which revisions of a teacher to learn from: every n-th, from a first to a last one, or those near its transition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hf_distill.strict_dataclass import from_mapping
from hf_distill.teachers.revision_spec import those_that_exist

Named = TypeVar("Named", bound=Any)
"""Anything with `name` and `step`, such as a Revision."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Revisions of a teacher, and which of them to use.

    In a recipe, `teacher.source` may be `{revisions: "org/model@step*", every: 2, first: step100, last: step800}`.
    """

    revisions: str | list[str] = field(
        metadata={"help": "Revisions on the Hub (org/model@step*, org/model@main~*), a folder, or a list of either."}
    )
    every: int = field(
        default=1, metadata={"help": "Keep every n-th revision from the first on; the last one always stays."}
    )
    first: str | int | None = field(default=None, metadata={"help": "Name or step of the first revision to use."})
    last: str | int | None = field(
        default=None, metadata={"help": "Name or step of the last revision to use, the final teacher."}
    )
    near_transition: int | None = field(
        default=None,
        metadata={
            "help": "Keep so many revisions around the sharp drop of the teacher's held-out loss, and the last one. "
            "All are scored first, so that this needs a recipe."
        },
    )

    def __post_init__(self) -> None:
        if not self.revisions or not all(text.strip() for text in self.entries):
            raise ValueError(f"revisions: expected a repository or folder, or a list of them, got {self.revisions!r}")
        if self.every < 1:
            raise ValueError(f"every: expected a whole number from 1 on, got {self.every}")
        if self.near_transition is not None and self.near_transition < 1:
            raise ValueError(f"near_transition: expected a whole number from 1 on, got {self.near_transition}")

    @property
    def entries(self) -> list[str]:
        """The entries of the sequence."""
        return [self.revisions] if isinstance(self.revisions, str) else self.revisions

    def of(self, revisions: Sequence[Named]) -> list[Named]:
        """Return the revisions from `first` to `last`, every n-th of them and always the last.

        Raises:
            ValueError: `first` or `last` is none of the revisions, or they are in the wrong order.
        """
        start = 0 if self.first is None else _index_of(revisions, self.first, "first")
        end = len(revisions) - 1 if self.last is None else _index_of(revisions, self.last, "last")
        if start > end:
            raise ValueError(
                f"first: {self.first} comes after last: {self.last} in the teacher's revisions; exchange them"
            )
        kept = list(revisions[start : end + 1 : self.every])
        return kept if (end - start) % self.every == 0 else [*kept, revisions[end]]


def read_selection(mapping: Mapping[str, Any], *, path: str = "teacher") -> Selection:
    """Return the selection that a mapping of a recipe or of Python describes.

    Raises:
        ValueError: An unknown key or a wrong value, named with `path` before it.
    """
    return from_mapping(Selection, mapping, path=path)


def near_transition(revisions: Sequence[Named], chosen: int, *, count: int) -> list[Named]:
    """Return `count` revisions in a row around the one in the middle of the transition, and always the last.

    Args:
        revisions: All that were scored, first to final.
        chosen: Index of the one in the middle of the sharp drop (`TransitionInfo.chosen`).
        count: How many to keep; with an even count one more before the middle than after it. At an end of the
            sequence the others make up for what is missing there.
    """
    start = min(max(chosen - count // 2, 0), max(len(revisions) - count, 0))
    kept = list(revisions[start : start + count])
    return kept if kept[-1] is revisions[-1] else [*kept, revisions[-1]]


def _index_of(revisions: Sequence[Named], wanted: str | int, key: str) -> int:
    text = str(wanted)
    for index, revision in enumerate(revisions):
        if revision.name == text:
            return index
    for index, revision in enumerate(revisions):
        if text.isdecimal() and revision.step == int(text):
            return index
    names = those_that_exist([revision.name for revision in revisions], text)
    raise ValueError(f"{key}: the teacher has no revision {text!r}. Revisions: {names}")
