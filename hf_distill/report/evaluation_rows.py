"""An evaluation as a table: one row a teacher, a curriculum (medians over its seeds) or a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from hf_distill.evaluation.record import Evaluation, ModelResult, Role, Timing
from hf_distill.report.tables import to_markdown
from hf_distill.report.wording import UNKNOWN, count, number, seconds, size, words


class EvaluatedRow(NamedTuple):
    """One row; numbers are medians over `seeds`, `low` and `high` the extremes of the metric.

    `place` is the curriculum's place in the run, which fixes its colour; None for teachers and baselines.
    """

    label: str
    role: Role
    place: int | None
    seeds: tuple[int, ...]
    metric: float | None
    low: float | None
    high: float | None
    retention: float | None
    agreement: float | None
    forward_kl: float | None
    squared_error: float | None
    calibration_error: float | None
    parameters: int
    weight_bytes: int
    timings: tuple[Timing, ...]
    lm_eval: dict[str, float]

    def latency(self, batch_size: int) -> Timing | None:
        """Return the timing of a batch size."""
        return next((timing for timing in self.timings if timing.batch_size == batch_size), None)


class EvaluatedTable(NamedTuple):
    """The rows: teachers first, then students best first, then baselines; and what they are about."""

    metric: str
    greater_is_better: bool
    reference: str | None
    device: str
    rows: tuple[EvaluatedRow, ...]


def evaluated_table(evaluation: Evaluation) -> EvaluatedTable:
    """Gather the table of an evaluation."""
    metric, greater = str(evaluation.task["metric"]), bool(evaluation.task["greater_is_better"])
    groups: dict[tuple[str, str], list[ModelResult]] = {}
    for model in evaluation.models:
        groups.setdefault((model.role, model.curriculum or model.name), []).append(model)
    commit = evaluation.reference.get("commit")
    taught = next((model.metrics.get(metric) for model in evaluation.models if model.commit == commit), None)
    places = {label: place for place, label in enumerate(label for role, label in groups if role == "student")}
    rows = [
        _row(evaluation, label, places.get(label) if role == "student" else None, models, metric, taught)
        for (role, label), models in groups.items()
    ]
    order = {"teacher": 0, "student": 1, "baseline": 2}
    sign = -1.0 if greater else 1.0
    rows.sort(
        key=lambda row: (
            order[row.role],
            0.0 if row.role == "teacher" else float("inf") if row.metric is None else sign * row.metric,
        )
    )
    threads = evaluation.environment.get("torch_threads")
    device = f"{evaluation.environment.get('device')}, {threads} thread{'' if threads == 1 else 's'}"
    return EvaluatedTable(metric, greater, evaluation.reference.get("name"), device, tuple(rows))


def evaluated_headers(table: EvaluatedTable) -> list[str]:
    """Return the column heads; a column that no row has a value for is left out."""
    return [head for head, cells in _columns(table) if any(cell != UNKNOWN for cell in cells)]


def evaluated_cells(table: EvaluatedTable) -> list[list[str]]:
    """Return the rows as text, in the order of `evaluated_headers`."""
    columns = [cells for _, cells in _columns(table) if any(cell != UNKNOWN for cell in cells)]
    return [list(row) for row in zip(*columns, strict=True)]


def evaluated_markdown(table: EvaluatedTable) -> str:
    """Write the table and what its numbers are as Markdown."""
    return f"{to_markdown(evaluated_headers(table), evaluated_cells(table))}\n{evaluated_note(table)}\n"


def evaluated_note(table: EvaluatedTable) -> str:
    """Say how to read the table."""
    parts = [f"{words(table.metric).capitalize()} on all held-out data, median over seeds [smallest – largest]."]
    if table.reference is not None:
        parts.append(f"Agreement and KL(teacher‖student), in nats a row, are with {table.reference}.")
    timing = next((timing for row in table.rows for timing in row.timings), None)
    if timing is not None:
        parts.append(
            f"Latency is the median of {timing.repeats} forwards [first – third quartile] on {table.device}; of "
            "models of one shape one was timed."
        )
    return " ".join(parts)


def spread_text(row: EvaluatedRow) -> str:
    """Write the metric as `median [smallest – largest]`."""
    if row.metric is None or row.low == row.high:
        return number(row.metric)
    return f"{number(row.metric)} [{number(row.low)} – {number(row.high)}]"


def timing_text(timing: Timing | None) -> str:
    """Write a latency as `median [first – third quartile]`."""
    if timing is None:
        return UNKNOWN
    first, third = timing.quartile_seconds
    return f"{seconds(timing.median_seconds)} [{seconds(first)} – {seconds(third)}]"


def batch_text(timing: Timing) -> str:
    """Write the size of a timed batch: `16 × 128 tokens`, `1 example`."""
    examples = f"{timing.batch_size}"
    if timing.length is not None:
        return f"{examples} × {timing.length} tokens"
    return f"{examples} example{'' if timing.batch_size == 1 else 's'}"


def _columns(table: EvaluatedTable) -> list[tuple[str, list[str]]]:
    rows = table.rows
    batches = {timing.batch_size: timing for row in rows for timing in row.timings}
    columns = [
        ("model", [row.label for row in rows]),
        ("seeds", [str(len(row.seeds)) if row.seeds else UNKNOWN for row in rows]),
        (words(table.metric), [spread_text(row) for row in rows]),
        ("÷ teacher", [number(row.retention) for row in rows]),
        ("agreement", [number(row.agreement) for row in rows]),
        ("KL", [number(row.forward_kl) for row in rows]),
        ("squared error to the teacher", [number(row.squared_error) for row in rows]),
        ("calibration error", [number(row.calibration_error) for row in rows]),
    ]
    tasks = dict.fromkeys(task for row in rows for task in row.lm_eval)
    columns += [(task, [number(row.lm_eval.get(task)) for row in rows]) for task in tasks]
    columns += [
        ("parameters", [count(row.parameters) for row in rows]),
        ("on disk", [size(row.weight_bytes) for row in rows]),
    ]
    for batch_size, timing in sorted(batches.items()):
        at, timed = batch_text(timing), [row.latency(batch_size) for row in rows]
        columns.append((f"latency, {at}", [timing_text(one) for one in timed]))
        if batch_size == max(batches):
            speeds = [count(one.examples_per_second) if one is not None else UNKNOWN for one in timed]
            columns.append((f"examples per second, {at}", speeds))
    return columns


def _row(
    evaluation: Evaluation,
    label: str,
    place: int | None,
    models: Sequence[ModelResult],
    metric: str,
    teacher: float | None,
) -> EvaluatedRow:
    values = [value for model in models if (value := model.metrics.get(metric)) is not None]
    middle = float(median(values)) if values else None
    return EvaluatedRow(
        label=label,
        role=models[0].role,
        place=place,
        seeds=tuple(model.seed for model in models if model.seed is not None),
        metric=middle,
        low=min(values, default=None),
        high=max(values, default=None),
        retention=middle / teacher if teacher and middle is not None and models[0].role != "teacher" else None,
        agreement=_median([model.fidelity for model in models], "agreement"),
        forward_kl=_median([model.fidelity for model in models], "forward_kl"),
        squared_error=_median([model.fidelity for model in models], "squared_error"),
        calibration_error=_median([model.calibration for model in models], "error"),
        parameters=models[0].parameters,
        weight_bytes=models[0].weight_bytes,
        timings=tuple(evaluation.timings_of(models[0])),
        lm_eval=_lm_eval(models),
    )


def _median(groups: Sequence[dict[str, float] | None], key: str) -> float | None:
    values = [group[key] for group in groups if group is not None and group.get(key) is not None]
    return float(median(values)) if values else None


def _lm_eval(models: Sequence[ModelResult]) -> dict[str, float]:
    """Return the median of each task's first metric, under the task's and the metric's name."""
    found: dict[str, list[float]] = {}
    for model in models:
        for task, metrics in model.lm_eval.items():
            name, value = next(((key, value) for key, value in metrics.items() if "stderr" not in key), ("", None))
            if value is not None:
                found.setdefault(f"{task} {words(name)}", []).append(float(value))
    return {name: float(median(values)) for name, values in found.items()}
