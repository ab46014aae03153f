"""What lies beside a run's record and belongs on its page: the evaluation and the answer about sensitivity."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hf_distill.analysis.drawing import series_colour
from hf_distill.atomic import atomic_write_text
from hf_distill.evaluation.record import CSV_NAME, MARKDOWN_NAME, Evaluation
from hf_distill.report.contributions import (
    ContributionsInfo,
    contribution_cells,
    contribution_headers,
    contributions_info,
    plot_contributions,
)
from hf_distill.report.evaluation_rows import (
    EvaluatedTable,
    evaluated_cells,
    evaluated_headers,
    evaluated_markdown,
    evaluated_note,
    evaluated_table,
)
from hf_distill.report.pareto import pareto_info, plot_pareto
from hf_distill.report.rendering import Section


class Beside(NamedTuple):
    """What was asked of a finished run; None where it was not."""

    evaluation: EvaluatedTable | None
    contributions: ContributionsInfo | None


def beside(folder: str | Path) -> Beside:
    """Read what lies in the folder of a run.

    Raises:
        ValueError: A file cannot be read.
    """
    found = Evaluation.load(folder)
    return Beside(None if found is None else evaluated_table(found), contributions_info(folder))


def write_evaluation_tables(evaluation: Evaluation, folder: str | Path) -> tuple[Path, Path]:
    """Write evaluation.csv (one row a model) and evaluation.md (medians over seeds); return their paths."""
    target = Path(folder)
    return (
        atomic_write_text(target / CSV_NAME, evaluation.to_csv()),
        atomic_write_text(target / MARKDOWN_NAME, evaluated_markdown(evaluated_table(evaluation))),
    )


def draw_beside(found: Beside, folder: Path) -> dict[str, Path]:
    """Draw what was found, and return the PNG files by name."""
    pictures: dict[str, Path] = {}
    if found.evaluation is not None:
        pareto = pareto_info(found.evaluation)
        if pareto.points:
            pictures["pareto"] = plot_pareto(pareto, folder / "pareto.png")
    if found.contributions is not None and found.contributions.rows:
        pictures["contributions"] = plot_contributions(found.contributions, folder / "contributions.png")
    return pictures


def evaluation_sections(table: EvaluatedTable | None) -> list[Section]:
    """Return the table of an evaluation for the page, in two of readable width: quality and fidelity, then cost."""
    if table is None:
        return []
    colours = [None if row.place is None else series_colour(row.place) for row in table.rows]
    heads, lines = evaluated_headers(table), evaluated_cells(table)
    cut = heads.index("parameters")
    parts = (slice(1, cut), slice(cut, None))
    return [
        Section(
            [heads[0], *heads[part]],
            [(colour, [line[0], *line[part]]) for colour, line in zip(colours, lines, strict=True)],
            evaluated_note(table),
        )
        for part in parts
    ]


def contributions_section(info: ContributionsInfo | None) -> Section | None:
    """Return the table of sensitivity for the page."""
    if info is None or not info.rows:
        return None
    rows = [(None if row.place is None else series_colour(row.place), contribution_cells(row)) for row in info.rows]
    note = (
        f"Standard deviation of |θ · ∂L/∂θ| over all parameters, on {info.batches} training batches without dropout, "
        "as it is and divided by the loss: the smaller, the more evenly parameters contribute. Only the second can be "
        "compared between models of different loss. Medians over seeds [smallest – largest]."
    )
    return Section(contribution_headers(info), rows, note)
