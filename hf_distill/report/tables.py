"""The table of a comparison: medians and spread per curriculum, as rows, Markdown, CSV and one sentence."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from hf_distill.report.wording import UNKNOWN, count, number, seconds, setting, words
from hf_distill.run_record import RunRecord

NOT_REACHED = "not reached"


class SummaryRow(NamedTuple):
    """One curriculum: the final held-out metric over seeds, steps to the level, cost.

    `median`, `low` and `high` are over the `measured` seeds only. `steps_to_level` is a median in which a seed that
    never got there counts as infinitely many; None if the median is one of those. `retention` is the median divided
    by the teacher's metric. `place` is the curriculum's place in the record, which fixes its colour.
    """

    curriculum: str
    place: int
    seeds: tuple[int, ...]
    measured: int
    median: float | None
    low: float | None
    high: float | None
    reached: int
    steps_to_level: float | None
    seconds: float | None
    retention: float | None


class SummaryTable(NamedTuple):
    """The rows, best first, and what they are about."""

    metric: str
    greater_is_better: bool
    level: float | None
    teacher: float | None
    rows: tuple[SummaryRow, ...]


def summary_table(record: RunRecord) -> SummaryTable:
    """Gather the table of a record.

    Rows are ordered by steps to the level where there is one (not reached comes last), then by the final metric.
    """
    metric, greater = str(record.task["metric"]), bool(record.task["greater_is_better"])
    teacher = (record.teacher.get("final_metrics") or {}).get(metric)
    rows = [
        SummaryRow(
            curriculum=row["curriculum"],
            place=place,
            seeds=tuple(row["seeds"]),
            measured=row["measured"],
            median=row["median"],
            low=row["min"],
            high=row["max"],
            reached=row["reached"],
            steps_to_level=row["steps_to_level"],
            seconds=row["seconds"],
            retention=None if not teacher or row["median"] is None else row["median"] / teacher,
        )
        for place, row in enumerate(record.summary())
    ]
    rows.sort(key=lambda row: _rank(row, greater))
    return SummaryTable(metric, greater, record.task.get("level"), teacher, tuple(rows))


def headers(table: SummaryTable) -> list[str]:
    """Return the column heads; columns about a level or a teacher are there only if the record has one."""
    heads = ["curriculum", "seeds", f"final {words(table.metric)}"]
    if table.level is not None:
        heads += [f"steps to {words(table.metric)} {setting(table.level)}", "seeds that got there"]
    heads.append("time of a student")
    return heads if table.teacher is None else [*heads, "student ÷ teacher"]


def cells(table: SummaryTable, row: SummaryRow) -> list[str]:
    """Return a row as text, in the order of `headers`."""
    texts = [row.curriculum, str(len(row.seeds)), spread(row)]
    if table.level is not None:
        texts.append(NOT_REACHED if row.steps_to_level is None else count(row.steps_to_level))
        texts.append(f"{row.reached} of {len(row.seeds)}")
    texts.append(seconds(row.seconds))
    return texts if table.teacher is None else [*texts, number(row.retention)]


def spread(row: SummaryRow) -> str:
    """Write the final metric as `median [min – max]`, and how many seeds it rests on if some failed."""
    if row.median is None:
        return UNKNOWN
    text = number(row.median)
    if row.measured > 1:
        text += f" [{number(row.low)} – {number(row.high)}]"
    return text if row.measured == len(row.seeds) else f"{text} ({row.measured} of {len(row.seeds)} seeds measured)"


def to_markdown(heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Write a Markdown table; the first `left` columns are flush left, the others flush right. Cells are escaped."""
    lines = ["| " + " | ".join(map(markdown_text, heads)) + " |"]
    lines.append("|" + "|".join([*[" :--- "] * left, *[" ---: "] * (len(heads) - left)]) + "|")
    lines += ["| " + " | ".join(map(markdown_text, row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def summary_markdown(table: SummaryTable) -> str:
    """Write the summary as a Markdown table."""
    return to_markdown(headers(table), [cells(table, row) for row in table.rows])


def to_csv(table: SummaryTable) -> str:
    """Write the summary as CSV with the numbers as they are; what is not known or not reached is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    names = [name for name in SummaryRow._fields if name != "place"]
    writer.writerow([*names, "metric", "level", "teacher"])
    for row in table.rows:
        values = {**row._asdict(), "seeds": " ".join(map(str, row.seeds))}
        writer.writerow([*(values[name] for name in names), table.metric, table.level, table.teacher])
    return stream.getvalue()


def headline(table: SummaryTable) -> str:
    """Say in one or two sentences what came out, from the rows alone."""
    if not table.rows:
        return "No student was trained."
    name = words(table.metric)
    if table.level is None or not any(row.reached for row in table.rows):
        missed = "" if table.level is None else f" No student reached {name} {setting(table.level)}."
        ends = "; ".join(f"{row.curriculum} {number(row.median)}" for row in table.rows)
        return f"Final held-out {name}, median over seeds: {ends}.{missed}"
    got = [row for row in table.rows if row.steps_to_level is not None]
    some = [row for row in table.rows if row.steps_to_level is None and row.reached]
    none = [row for row in table.rows if not row.reached]
    parts = [
        f"{row.curriculum} reaches {name} {setting(table.level)} in {count(row.steps_to_level)} steps "
        f"({row.reached} of {len(row.seeds)} seeds)"
        for row in got
    ]
    parts += [f"{row.curriculum} reaches it with {row.reached} of {len(row.seeds)} seeds only" for row in some]
    text = "; ".join(parts) + "."
    if none:
        ends = ", ".join(f"{row.curriculum} (ends at {number(row.median)})" for row in none)
        text += f" Not reached by {ends}."
    return text


def markdown_text(text: str) -> str:
    """Escape what would end a cell or start HTML, code or emphasis across cells."""
    for mark in ("\\", "|", "<", "`", "*"):
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _rank(row: SummaryRow, greater_is_better: bool) -> tuple[bool, float, bool, float]:
    value = row.median or 0.0
    return (
        row.steps_to_level is None,
        row.steps_to_level or 0.0,
        row.median is None,
        -value if greater_is_better else value,
    )
