"""Where a fine-tuned model comes from: the student it began with, who taught that one, and where these are."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

from hf_distill.hub.card_data import base_models, is_hub_id, on_hub, teachers_of
from hf_distill.hub.pushed import Pushed, pushed_as
from hf_distill.recipe.finetune_spec import FROM_SCRATCH, TEACHER
from hf_distill.run_record import RevisionRecord, RunRecord, StudentRun

DISTILLED = "distilled"


class Lineage(NamedTuple):
    """A fine-tuned model and what it was made from.

    Attributes:
        block: Name of the downstream task.
        task: The block as a record of its own; its `student` is the model that was fine-tuned.
        run: The fine-tuning.
        start: DISTILLED, or one of the labels FROM_SCRATCH, TEACHER, STUDENT of what nothing was distilled into.
        student: The distilled student that it began with.
        taught: The revisions that taught this student.
        baselines: Labels of the block's fine-tunings that no student began.
        pushed: Where the student is on the Hub, if it is known.
        spec: The recipe's block; empty where the record's recipe has none of this name.
    """

    block: str
    task: RunRecord
    run: StudentRun
    start: str
    student: StudentRun | None
    taught: list[RevisionRecord]
    baselines: tuple[str, ...]
    pushed: Pushed | None
    spec: dict[str, Any]

    @property
    def began_with(self) -> RevisionRecord | None:
        """What the fine-tuning began with, pinned; None for new weights, and in records of earlier versions."""
        return self.run.began_with


def lineage_of(record: RunRecord, block: str, *, curriculum: str, seed: int, pushed: Pushed | None = None) -> Lineage:
    """Return where one fine-tuned model of a run comes from.

    Args:
        record: The run.
        block: Name of the downstream task.
        curriculum: Label of what it began with.
        seed: Its seed.
        pushed: Where the student is on the Hub, if it is known.

    Raises:
        ValueError: The record has no such task or model; the message names those it has.
    """
    task = record.finetuned(block)
    run = next((one for one in task.runs if (one.curriculum, one.seed) == (curriculum, seed)), None)
    if run is None:
        known = ", ".join(f"{one.curriculum} with seed {one.seed}" for one in task.runs) or "none"
        raise ValueError(f"{task.name} has no model {curriculum!r} with seed {seed}; it has: {known}.")
    student = next((one for one in record.runs if (one.curriculum, one.seed) == (curriculum, seed)), None)
    start = curriculum if student is None else DISTILLED
    return Lineage(
        block=block,
        task=dataclasses.replace(task, student=_model(record, start)),
        run=run,
        start=start,
        student=student,
        taught=[] if student is None else teachers_of(record, student),
        baselines=baselines_of(record, task),
        pushed=pushed if start == DISTILLED else None,
        spec=next((dict(spec) for spec in record.recipe.get("finetune") or [] if spec.get("name") == block), {}),
    )


def baselines_of(record: RunRecord, task: RunRecord) -> tuple[str, ...]:
    """Return the labels of a block's fine-tunings that no student began: from new weights, from the teacher.

    Args:
        record: The run.
        task: The block as a record of its own.
    """
    curricula = {run.curriculum for run in record.runs}
    there = {run.curriculum for run in task.runs} - curricula
    return tuple(label for label in (FROM_SCRATCH, TEACHER) if label in there)


def where_pushed(root: Path, run: StudentRun) -> Pushed | None:
    """Return where the student that a fine-tuning began with was pushed to from this run's folder, if it was.

    Raises:
        ValueError: The notes of what was pushed cannot be read.
    """
    return None if run.began_with is None else pushed_as(root, run.began_with.commit)


def fine_tuned_bases(record: RunRecord, line: Lineage) -> list[str]:
    """Return the Hub ids of what a model was fine-tuned from: the student, else its origin and those who taught it."""
    if line.start == FROM_SCRATCH:
        return []
    if line.pushed is not None:
        return [line.pushed.repo_id]
    if line.began_with is not None and on_hub(line.began_with):
        return [line.began_with.source]
    if line.student is not None:
        return base_models(record, line.student)
    if line.began_with is not None:
        return []
    if line.start == TEACHER:
        return [revision.source for revision in record.revisions()[-1:] if on_hub(revision)]
    pretrained = str((record.student.get("origin") or {}).get("pretrained") or "")
    return [pretrained] if is_hub_id(pretrained) else []


def _model(record: RunRecord, start: str) -> dict[str, Any]:
    """Return what was fine-tuned, as a record's `student`; what was measured of the student is not this model's."""
    if start != TEACHER:
        return {key: record.student[key] for key in ("origin", "description", "license") if key in record.student}
    recipe = record.recipe.get("teacher") or {}
    trained = (recipe.get("train") or {}).get("model")
    return {"origin": trained or {"pretrained": record.teacher.get("source") or recipe.get("source")}}
