"""Several runs side by side: which can stand in one table, and the rows of it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hf_distill.evaluation.record import Evaluation, Timing
from hf_distill.report.evaluation_rows import EvaluatedRow, EvaluatedTable, batch_text, evaluated_table, timing_text
from hf_distill.report.pareto import ParetoInfo, pareto_info
from hf_distill.report.tables import SummaryRow, spread, summary_table, to_markdown
from hf_distill.report.wording import UNKNOWN, count, number, seconds, words
from hf_distill.run_record import RunRecord

# What a task's description says of the training data, or of where both were read.
_OF_TRAINING = ("train_",)


class ComparedRun(NamedTuple):
    """A run: the name it goes by among the others, its record, and its evaluation where it was evaluated."""

    name: str
    record: RunRecord
    evaluation: EvaluatedTable | None
    environment: dict[str, Any]


class ComparedRow(NamedTuple):
    """One model of one run: a teacher (no `summary`) or a curriculum; `place` counts the rows, for the colour."""

    run: str
    label: str
    place: int | None
    summary: SummaryRow | None
    metric: float | None
    parameters: float | None
    evaluated: EvaluatedRow | None


class Block(NamedTuple):
    """Runs that measured the same thing, best row first; `notes` say what differs between them all the same."""

    metric: str
    greater_is_better: bool
    runs: tuple[str, ...]
    rows: tuple[ComparedRow, ...]
    timed: bool
    device: str
    notes: tuple[str, ...]


def read_runs(places: Sequence[str | Path]) -> list[ComparedRun]:
    """Read the records of runs, with their evaluations; runs of one name are told apart by their folders.

    Raises:
        ValueError: No such run, or the same one twice.
    """
    folders = [Path(place) if Path(place).is_dir() else Path(place).parent for place in places]
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise ValueError(f"the same run is named twice: {', '.join(map(str, places))}")
    records = [RunRecord.load(place) for place in places]
    names = [record.name for record in records]
    found = []
    for folder, record in zip(folders, records, strict=True):
        evaluation = Evaluation.load(folder)
        found.append(
            ComparedRun(
                name=record.name if names.count(record.name) == 1 else f"{record.name} ({folder})",
                record=record,
                evaluation=None if evaluation is None else evaluated_table(evaluation),
                environment={} if evaluation is None else dict(evaluation.environment),
            )
        )
    return found


def blocks_of(runs: Sequence[ComparedRun]) -> list[Block]:
    """Group runs by what they measured: task, metric and held-out data; in the order of their first run."""
    groups: dict[str, list[ComparedRun]] = {}
    for run in runs:
        groups.setdefault(json.dumps(measured(run.record), sort_keys=True), []).append(run)
    return [_block(group) for group in groups.values()]


def measured(record: RunRecord) -> dict[str, Any]:
    """Return what decides whether numbers can be compared: head, metric and everything known of the held-out data."""
    task = record.task
    described = {
        key: value
        for key, value in (task.get("description") or {}).items()
        if not key.startswith(_OF_TRAINING) and key not in ("mean", "std")
    }
    return {**{key: task.get(key) for key in ("name", "head", "metric", "greater_is_better")}, "data": described}


def reasons_apart(blocks: Sequence[Block], runs: Sequence[ComparedRun]) -> list[str]:
    """Say for each block but the first why it stands apart from it."""
    by_name = {run.name: measured(run.record) for run in runs}
    first = by_name[blocks[0].runs[0]]
    texts = []
    for block in blocks[1:]:
        other = by_name[block.runs[0]]
        differing = [
            f"{key.removeprefix('data.')} ({_short(one)} against {_short(two)})"
            for key, one, two in _differences(first, other)
            if key != "greater_is_better"
        ]
        texts.append(
            f"{', '.join(block.runs)} {'stands' if len(block.runs) == 1 else 'stand'} apart from "
            f"{', '.join(blocks[0].runs)}, because other things were measured: {'; '.join(differing)}."
        )
    return texts


def compared_headers(block: Block) -> list[str]:
    """Return the column heads; a column that no row has a value for is left out."""
    return [head for head, cells in _columns(block) if any(cell != UNKNOWN for cell in cells)]


def compared_cells(block: Block) -> list[list[str]]:
    """Return the rows as text, in the order of `compared_headers`."""
    columns = [cells for _, cells in _columns(block) if any(cell != UNKNOWN for cell in cells)]
    return [list(row) for row in zip(*columns, strict=True)]


def compared_markdown(block: Block) -> str:
    """Write a block's table as Markdown, with what differs between its runs."""
    notes = "".join(f"\n{note}\n" for note in block.notes)
    return to_markdown(compared_headers(block), compared_cells(block), left=2) + notes


def compared_csv(blocks: Sequence[Block]) -> str:
    """Write all blocks as CSV, numbers as they are; `block` counts the blocks, whose rows cannot be compared."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    summary = ("seeds", "measured", "median", "low", "high", "steps_to_level", "seconds", "retention")
    evaluated = ("agreement", "forward_kl", "squared_error", "calibration_error", "weight_bytes")
    writer.writerow(["block", "metric", "run", "model", *summary, "parameters", *evaluated, "latency_seconds"])
    for place, block in enumerate(blocks, 1):
        for row in block.rows:
            found = {} if row.summary is None else row.summary._asdict()
            found = {**found, "median": row.metric, "seeds": " ".join(map(str, found.get("seeds", ())))}
            asked = {} if row.evaluated is None else row.evaluated._asdict()
            timing = smallest_timing(row)
            writer.writerow(
                [place, block.metric, row.run, row.label]
                + [found.get(key) for key in summary]
                + [row.parameters, *(asked.get(key) for key in evaluated)]
                + [timing.median_seconds if timing is not None and block.timed else None]
            )
    return stream.getvalue()


def compared_pareto(block: Block) -> ParetoInfo:
    """Gather the points of a block: against latency where all its runs were timed alike, else against parameters."""
    rows = tuple(_as_evaluated(row) for row in block.rows)
    table = EvaluatedTable(block.metric, block.greater_is_better, None, block.device, rows)
    return pareto_info(table, cost="latency" if block.timed else "parameters")


def smallest_timing(row: ComparedRow) -> Timing | None:
    """Return a row's latency of the smallest batch."""
    timings = row.evaluated.timings if row.evaluated is not None else ()
    return min(timings, key=lambda timing: timing.batch_size, default=None)


def _block(runs: Sequence[ComparedRun]) -> Block:
    metric, greater = str(runs[0].record.task["metric"]), bool(runs[0].record.task["greater_is_better"])
    rows = _without_repeated_teachers(runs, [row for run in runs for row in _rows(run, metric)])
    sign = -1.0 if greater else 1.0
    rows.sort(key=lambda row: (row.metric is None, sign * (row.metric or 0.0)))
    places = {id(row): place for place, row in enumerate(row for row in rows if row.summary is not None)}
    environments = {json.dumps(run.environment, sort_keys=True) for run in runs}
    batches = {
        tuple((timing.batch_size, timing.length) for timing in row.evaluated.timings)
        for row in rows
        if row.evaluated is not None and row.evaluated.timings
    }
    evaluated = [run for run in runs if run.evaluation is not None]
    timed = len(evaluated) == len(runs) and len(environments) == 1 and len(batches) == 1
    notes = _notes(runs, evaluated=len(evaluated), timed=timed)
    placed = tuple(row._replace(place=places.get(id(row))) for row in rows)
    device = next((run.evaluation.device for run in runs if run.evaluation is not None), "")
    return Block(metric, greater, tuple(run.name for run in runs), placed, timed, device, notes)


def _without_repeated_teachers(runs: Sequence[ComparedRun], rows: Sequence[ComparedRow]) -> list[ComparedRow]:
    """Return the rows with a teacher that several runs share standing there once, under all their names."""
    commits = {run.name: tuple(one.commit for one in run.record.revisions()[-1:]) for run in runs}
    shared: dict[tuple[str, ...], list[str]] = {}
    for name, commit in commits.items():
        shared.setdefault(commit or (name,), []).append(name)
    kept = []
    for row in rows:
        names = shared[commits[row.run] or (row.run,)]
        if row.summary is not None:
            kept.append(row)
        elif row.run == names[0]:
            kept.append(row._replace(run=", ".join(names)))
    return kept


def _rows(run: ComparedRun, metric: str) -> list[ComparedRow]:
    record, asked = run.record, {} if run.evaluation is None else {row.label: row for row in run.evaluation.rows}
    rows = []
    teacher = (record.teacher.get("final_metrics") or {}).get(metric)
    of_teacher = [row for row in asked.values() if row.role == "teacher"]
    evaluated = of_teacher[0] if len(of_teacher) == 1 else None
    if teacher is not None or evaluated is not None:
        value = evaluated.metric if evaluated is not None and evaluated.metric is not None else teacher
        rows.append(ComparedRow(run.name, "teacher", None, None, value, record.teacher.get("parameters"), evaluated))
    for row in summary_table(record).rows:
        size = record.student.get("parameters")
        rows.append(ComparedRow(run.name, row.curriculum, None, row, row.median, size, asked.get(row.curriculum)))
    return rows


def _notes(runs: Sequence[ComparedRun], *, evaluated: int, timed: bool) -> tuple[str, ...]:
    """Say what differs between runs that stand in one table."""
    notes = []
    tasks = [dict(run.record.recipe.get("task") or {}) for run in runs]
    keys = {key for other in tasks[1:] for key, *_ in _differences(tasks[0], other)}
    if keys:
        notes.append(f"Measured on the same held-out data; the runs differ in task.{', task.'.join(sorted(keys))}.")
    if not timed and evaluated:
        why = (
            "not every run was evaluated (`hf-distill evaluate`)"
            if evaluated < len(runs)
            else "they were timed on another machine, with other versions or other batches"
        )
        notes.append(f"Latencies are left out: {why}.")
    return tuple(notes)


def _columns(block: Block) -> list[tuple[str, list[str]]]:
    rows, summaries, asked = block.rows, [row.summary for row in block.rows], [row.evaluated for row in block.rows]
    timings = [smallest_timing(row) if block.timed else None for row in rows]
    timed = next((timing for timing in timings if timing is not None), None)
    return [
        ("run", [row.run for row in rows]),
        ("model", [row.label for row in rows]),
        ("seeds", [str(len(one.seeds)) if one is not None else UNKNOWN for one in summaries]),
        (
            f"final {words(block.metric)}",
            [number(row.metric) if row.summary is None else spread(row.summary) for row in rows],
        ),
        ("÷ teacher", [number(one.retention) if one is not None else UNKNOWN for one in summaries]),
        ("agreement", [number(one.agreement) if one is not None else UNKNOWN for one in asked]),
        ("KL", [number(one.forward_kl) if one is not None else UNKNOWN for one in asked]),
        ("calibration error", [number(one.calibration_error) if one is not None else UNKNOWN for one in asked]),
        ("parameters", [count(row.parameters) for row in rows]),
        (f"latency, {batch_text(timed) if timed is not None else ''}", [timing_text(one) for one in timings]),
        ("time of a student", [seconds(one.seconds) if one is not None else UNKNOWN for one in summaries]),
    ]


def _as_evaluated(row: ComparedRow) -> EvaluatedRow:
    """Return a row for the Pareto picture, named after its run too."""
    summary = row.summary
    bare = EvaluatedRow(
        label="", role="teacher" if summary is None else "student", place=row.place, seeds=(), metric=None, low=None,
        high=None, retention=None, agreement=None, forward_kl=None, squared_error=None, calibration_error=None,
        parameters=0, weight_bytes=0, timings=(), lm_eval={},
    )  # fmt: skip
    return (row.evaluated or bare)._replace(
        label=f"{row.run}: {row.label}",
        place=row.place,
        metric=row.metric if row.parameters else None,
        low=row.metric if summary is None else summary.low,
        high=row.metric if summary is None else summary.high,
        parameters=round(row.parameters or 0),
    )


def _differences(one: Any, other: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = dict.fromkeys([*one, *other])
        inner = ((f"{path}.{key}" if path else str(key), one.get(key), other.get(key)) for key in keys)
        return [found for key, first, second in inner for found in _differences(first, second, key)]
    return [] if one == other else [(path, one, other)]


def _short(value: Any) -> str:
    text = UNKNOWN if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
