"""Downstream tasks on the page of a run: where each fine-tuning began, how well it ended, and its curves."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hf_distill.analysis.drawing import series_colour
from hf_distill.report.curves import learning_curves_info, plot_learning_curves
from hf_distill.report.rendering import Picture, Section, embedded
from hf_distill.report.tables import cells, headers, headline, summary_markdown, summary_table, to_csv
from hf_distill.report.wording import percent, task_title, words
from hf_distill.run_record import DownstreamRecord, RunRecord


class DownstreamSection(NamedTuple):
    """One downstream task as the page shows it."""

    name: str
    headline: str
    section: Section
    picture: Picture | None


def draw_downstream(record: RunRecord, folder: Path) -> dict[str, Path]:
    """Draw the curves of each downstream task, and return the PNG files by the task's name."""
    pictures: dict[str, Path] = {}
    for block in record.downstream:
        # The fine-tuned teacher is a curve of its own there.
        curves = learning_curves_info(record.finetuned(block.name))._replace(teacher=None)
        if any(curve.steps for curve in curves.curves):
            pictures[block.name] = plot_learning_curves(curves, folder / f"finetuned_{block.name}.png")
    return pictures


def downstream_sections(record: RunRecord, pictures: dict[str, Path]) -> list[DownstreamSection]:
    """Return the downstream tasks of a record; those without any run are left out.

    Args:
        record: The run.
        pictures: What `draw_downstream` returned.
    """
    sections = []
    for block in record.downstream:
        table = summary_table(record.finetuned(block.name))
        if not table.rows:
            continue
        rows: list[tuple[str | None, list[str]]] = [
            (series_colour(row.place), cells(table, row)) for row in table.rows
        ]
        alt = f"Held-out {words(table.metric)} of the fine-tunings on {block.name} over optimizer steps"
        picture = embedded(pictures[block.name], alt) if block.name in pictures else None
        section = Section(["fine-tuned from", *headers(table)[1:]], rows, downstream_note(block))
        sections.append(DownstreamSection(block.name, headline(table), section, picture))
    return sections


def downstream_note(block: DownstreamRecord) -> str:
    """Say what the rows are, and how much of each beginning is in the model that was fine-tuned."""
    description = block.task.get("description") or {}
    parts = [f"Fine-tuned with labels on {description.get('source') or task_title(block.task)}."]
    if any(run.curriculum == "from_scratch" for run in block.runs):
        parts.append("from_scratch: the student's architecture, from new weights.")
    if block.carried:
        shares = ", ".join(f"{percent(share)} ({label})" for label, share in block.carried.items())
        parts.append(f"Share of the parameters carried over, the head being new: {shares}.")
    return " ".join(parts)


def downstream_markdown(record: RunRecord) -> str:
    """Write the downstream tasks' tables as Markdown, one below the other; empty without any."""
    texts = []
    for block in record.downstream:
        table = summary_table(record.finetuned(block.name))
        if table.rows:
            texts.append(
                f"## Fine-tuned: {block.name}\n\n{headline(table)}\n\n{summary_markdown(table)}\n"
                f"{downstream_note(block)}\n"
            )
    return "\n".join(texts)


def downstream_csv(record: RunRecord) -> dict[str, str]:
    """Return the tables as CSV by file name."""
    tables = {block.name: summary_table(record.finetuned(block.name)) for block in record.downstream}
    return {f"finetuned_{name}.csv": to_csv(table) for name, table in tables.items() if table.rows}
