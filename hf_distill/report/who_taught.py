"""Who taught whom in a run: assistants after one another, members of an ensemble, the student itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hf_distill.report.wording import UNKNOWN, count, number, seconds, words
from hf_distill.run_record import RevisionRecord, RunRecord

ITSELF = ("ema", "adapter_off")
"""Kinds of teachers that are made of the student."""


class ModelRow(NamedTuple):
    """One model that took part: its final held-out metric, what its training took, whom it learned from, its pin."""

    name: str
    model: str
    parameters: float | None
    metric: float | None
    seconds: float | None
    learned_from: str
    commit: str


def models_info(record: RunRecord) -> list[ModelRow]:
    """Return the models behind the students' teacher in the order of training; none where one teacher stood alone."""
    metric = str(record.task["metric"])
    return [
        ModelRow(
            name=str(model["name"]),
            model=str(model.get("model") or model.get("source") or UNKNOWN),
            parameters=model.get("parameters"),
            metric=(model.get("final_metrics") or {}).get(metric),
            seconds=model.get("seconds"),
            learned_from=str(model.get("learned_from") or UNKNOWN),
            commit=str(model["revisions"][-1]["commit"]),
        )
        for model in record.teacher.get("models") or []
    ]


def model_headers(record: RunRecord) -> list[str]:
    """Return the column heads of the table of models."""
    metric = words(str(record.task["metric"]))
    return ["", "model", "learned from", "parameters", f"held-out {metric}", "time", "final revision"]


def model_cells(row: ModelRow) -> list[str]:
    """Return a row as text, in the order of `model_headers`."""
    shown = (count(row.parameters), number(row.metric), seconds(row.seconds), short(row.commit))
    return [row.name, row.model, row.learned_from, *shown]


def short(commit: str) -> str:
    """Return the beginning of a commit or content hash, enough to tell it from others."""
    return commit[:19] if commit.startswith("sha256:") else commit[:12]


def taught_by_text(teacher: Mapping[str, Any], revisions: int) -> str:
    """Say in words what a student learned from.

    Args:
        teacher: The record's block of the teacher.
        revisions: How many revisions taught the student.
    """
    kind = teacher.get("kind", "teacher")
    what = "one revision" if revisions == 1 else f"{revisions} revisions"
    members = len((teacher.get("revisions") or [{}])[0].get("members") or [])
    return {
        "assistant": f"{what} of a teaching assistant of its teacher ({teacher.get('source')})",
        "ensemble": f"an ensemble of {members} teachers",
        "ladder": f"a ladder of {members} teachers, one of which answered each example by its difficulty",
        "pruned_mix": f"{what} of its teacher, mixed with a pruned copy of it",
        "ema": "its own moving average",
        "adapter_off": "itself without its adapter",
    }.get(kind, f"{what} of its teacher")


def with_members(revision: RevisionRecord, depth: int = 0) -> Iterator[tuple[int, RevisionRecord]]:
    """Yield a revision and those it is made of, each with its depth."""
    yield depth, revision
    for member in revision.members:
        yield from with_members(member, depth + 1)


def indented(name: str, depth: int) -> str:
    """Return a revision's name as a table shows it below what is made of it."""
    return f"{'· ' * depth}{name}"
