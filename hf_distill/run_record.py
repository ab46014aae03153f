"""The JSON that a run leaves behind: what was asked, what was used, pinned by commit, and what came out.

The report, the model card and the command line read only this.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_distill.atomic import atomic_write_json, json_ready
from hf_distill.redaction import without_secrets
from hf_distill.strict_dataclass import from_mapping
from hf_distill.wording import given

SCHEMA = 1
FILE_NAME = "run_record.json"

Metrics = Mapping[str, int | float | None]
"""Numbers by name; None where a number was not finite."""

_COMMIT = re.compile(r"[0-9a-f]{40}|sha256:[0-9a-f]{8,64}")


@dataclass(kw_only=True)
class RevisionRecord:
    """One revision of a teacher and the commit it resolved to; an ensemble's has those of its `members`.

    Raises:
        ValueError: `commit` is no pin: a branch or tag may move, and then nobody knows what the student learned from.
    """

    name: str
    step: int | None
    source: str
    revision: str | None
    commit: str
    members: list[RevisionRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not _COMMIT.fullmatch(self.commit):
            expected = "a full commit (40 hex digits) or, for a local folder, sha256:<hex>"
            raise ValueError(f"commit of revision {self.name!r}: expected {expected}, got {given(self.commit)}.")


@dataclass(kw_only=True)
class StageRecord:
    """A stage as it was run: optimizer steps `start` to `end` (None while it runs), its revision and its terms."""

    name: str
    start: int
    end: int | None
    revision: str | None
    terms: list[str]


@dataclass(kw_only=True)
class StudentRun:
    """One student: a curriculum with a seed. Held-out points stand in `history`, training logs in `training_log`.

    `began_with` is of a fine-tuning: the trained weights that it began with, pinned. `papers` are the arXiv ids of the
    methods.
    """

    curriculum: str
    seed: int
    folder: str
    loss_formula: str
    stages: list[StageRecord]
    history: Sequence[Metrics]
    training_log: Sequence[Metrics]
    final_metrics: Metrics
    steps_to_level: int | None = None
    costs: Metrics = field(default_factory=dict)
    began_with: RevisionRecord | None = None
    papers: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class DownstreamRecord:
    """Students fine-tuned with labels on another task.

    A run's `curriculum` says where it began: the label of the curriculum that made the student, `from_scratch` (new
    weights of the student's architecture), `teacher`, or `student` where nothing was distilled. `task` is as in
    `RunRecord`; `carried` holds, for each beginning, the share of the parameters that came from there.
    """

    name: str
    task: dict[str, Any]
    carried: dict[str, float] = field(default_factory=dict)
    runs: list[StudentRun] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.task = _plain(self.task, "task")


@dataclass(kw_only=True)
class RunRecord:
    """What remains of `hf-distill run`: one teacher, its revisions, and every student that was trained.

    `task`, `teacher` and `student` are plain mappings; dataclasses inside them become mappings on construction.
    Numbers that are not finite are null in the file and None after loading.
    """

    schema: int = SCHEMA
    name: str
    recipe: dict[str, Any]
    command: list[str]
    versions: dict[str, str]
    environment: dict[str, Any]
    started: str
    finished: str | None = None
    task: dict[str, Any]
    teacher: dict[str, Any] = field(default_factory=dict)
    student: dict[str, Any]
    runs: list[StudentRun] = field(default_factory=list)
    downstream: list[DownstreamRecord] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.recipe = _plain(self.recipe, "recipe")
        self.environment = _plain(self.environment, "environment")
        self.task = _plain(self.task, "task")
        self.teacher = _plain(self.teacher, "teacher")
        self.student = _plain(self.student, "student")

    def finetuned(self, name: str) -> RunRecord:
        """Return a downstream task as a record of its own, for the tables and pictures that a record has.

        Raises:
            ValueError: There is none of this name.
        """
        found = next((block for block in self.downstream if block.name == name), None)
        if found is None:
            known = ", ".join(block.name for block in self.downstream) or "none"
            raise ValueError(f"{self.name} has no downstream task {name!r}; it has: {known}.")
        metric = found.task["metric"]
        values = _finite(run.final_metrics.get(metric) for run in found.runs if run.curriculum == "teacher")
        teacher = {"final_metrics": {metric: statistics.median(values)}} if values else {}
        return dataclasses.replace(
            self, name=f"{self.name}/{name}", task=found.task, runs=found.runs, teacher=teacher, downstream=[]
        )

    def revisions(self) -> list[RevisionRecord]:
        """Return the teacher's revisions in order; none without a teacher."""
        listed = enumerate(self.teacher.get("revisions", []))
        return [from_mapping(RevisionRecord, entry, path=f"teacher.revisions[{index}]") for index, entry in listed]

    def to_dict(self) -> dict[str, Any]:
        """Return the record as `save` writes it: JSON types only, access tokens blanked."""
        # The command line and a repository's address are where tokens slip in; records are published with the model.
        return without_secrets(_plain(self, ""))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the record atomically.

        Args:
            path: A file, or a folder for the usual name in it.

        Raises:
            ValueError: A value has no JSON form; the message names its key.
            OSError: It cannot be written; an older record is intact.
        """
        return atomic_write_json(_record_file(path), self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RunRecord:
        """Read a record.

        Args:
            path: The file, or the folder of the run.

        Raises:
            ValueError: No such file, broken JSON, no run record, another schema, or a wrong field.
        """
        file = _record_file(path)
        mapping = _read_json(file)
        schema = mapping.get("schema") if isinstance(mapping, dict) else None
        if schema is None:
            raise ValueError(f"{file} is no run record: it has no `schema`. Give a run's folder or file.")
        if schema != SCHEMA:
            raise ValueError(
                f"{file} has schema {given(schema)}, this version of hf_distill reads {SCHEMA}. "
                "Read it with the version that wrote it (see `versions` in the file), or run the recipe again."
            )
        try:
            return from_mapping(cls, mapping)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error

    def summary(self) -> list[dict[str, Any]]:
        """Return one row a curriculum, in the order they ran.

        A row holds `curriculum`, `seeds` (list), `metric` (its name), `measured` (seeds with a finite final value of
        it), `median`, `min` and `max` over those, `level`, `reached` (seeds that got there), `steps_to_level` (median
        in optimizer steps, a seed that never got there counting as infinitely many; None if the median is one of
        those) and `seconds` (median training time).
        """
        by_curriculum: dict[str, list[StudentRun]] = {}
        for run in self.runs:
            by_curriculum.setdefault(run.curriculum, []).append(run)
        return [self._row(curriculum, runs) for curriculum, runs in by_curriculum.items()]

    def _row(self, curriculum: str, runs: Sequence[StudentRun]) -> dict[str, Any]:
        metric = self.task.get("metric", "loss")
        values = _finite(run.final_metrics.get(metric) for run in runs)
        seconds = _finite(run.costs.get("seconds") for run in runs)
        steps = [math.inf if run.steps_to_level is None else run.steps_to_level for run in runs]
        median_steps = statistics.median(steps)
        return {
            "curriculum": curriculum,
            "seeds": [run.seed for run in runs],
            "metric": metric,
            "measured": len(values),
            "median": statistics.median(values) if values else None,
            "min": min(values, default=None),
            "max": max(values, default=None),
            "level": self.task.get("level"),
            "reached": sum(math.isfinite(step) for step in steps),
            "steps_to_level": median_steps if math.isfinite(median_steps) else None,
            "seconds": statistics.median(seconds) if seconds else None,
        }


def first_step_at_level(
    history: Sequence[Metrics], *, metric: str, level: float, greater_is_better: bool = True
) -> int | None:
    """Return the first held-out step at which the metric is at `level` or better, or None if it never was.

    It overstates the true step by up to one evaluation interval: compare it only between runs evaluated equally often.

    Args:
        history: Held-out points with "step" and the metric.
        metric: Key of the metric.
        level: Value to reach.
        greater_is_better: False for a loss.
    """
    for point in history:
        value = point.get(metric)
        if value is not None and (value >= level if greater_is_better else value <= level):
            return int(point["step"] or 0)
    return None


def _finite(values: Any) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _record_file(path: str | os.PathLike[str]) -> Path:
    file = Path(path)
    return file / FILE_NAME if file.is_dir() else file


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"There is no {file}. `hf-distill run` writes {FILE_NAME} into its output_dir.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not readable JSON ({error}). Restore it or run the recipe again.") from error


def _plain(value: Any, path: str) -> Any:
    return json_ready(_without_dataclasses(value), path=path)


def _without_dataclasses(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Mapping):
        return {key: _without_dataclasses(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_dataclasses(item) for item in value]
    return value
