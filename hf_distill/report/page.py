"""The page of a run: one HTML file that needs nothing else, and its pictures and tables as files beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from hf_distill.analysis.drawing import series_colour
from hf_distill.atomic import atomic_write_text
from hf_distill.redaction import without_secrets
from hf_distill.report import wording
from hf_distill.report.beside import Beside, beside, contributions_section, draw_beside, evaluation_sections
from hf_distill.report.costs import costs_info, plot_costs
from hf_distill.report.curves import learning_curves_info, plot_learning_curves
from hf_distill.report.downstream import (
    DownstreamSection,
    downstream_csv,
    downstream_markdown,
    downstream_sections,
    draw_downstream,
)
from hf_distill.report.facts import facts_of
from hf_distill.report.loss_parts import loss_parts_info, plot_loss_parts
from hf_distill.report.rendering import embedded, render_page
from hf_distill.report.stages import loss_formulas, revision_rows, stage_rows
from hf_distill.report.tables import cells, headers, headline, summary_markdown, summary_table, to_csv
from hf_distill.report.teacher_curve import plot_teacher_curve, teacher_curve_info
from hf_distill.report.who_taught import model_cells, model_headers, models_info
from hf_distill.run_record import RunRecord
from hf_distill.strict_dataclass import from_mapping

FILE_NAME = "report.html"


def write_report(record: RunRecord, folder: str | Path, *, title: str | None = None) -> Path:
    """Write report.html, the PNGs, results.csv and results.md into a folder.

    Every file is replaced as a whole, the page last, so that a page never shows older pictures than its own. Access
    tokens in the recipe or the command line are blanked. An evaluation and an answer about sensitivity that lie in the
    folder are shown too.

    Args:
        record: The run; it may be unfinished.
        folder: Made if it does not exist.
        title: Head of the page. Default: the recipe's `report.title`, else the name of the run.

    Returns:
        The path of the page.
    """
    target = Path(folder)
    clean = from_mapping(RunRecord, without_secrets(record.to_dict()))
    table, found = summary_table(clean), beside(target)
    pictures = draw_pictures(clean, target) | draw_beside(found, target)
    finetuned = downstream_sections(clean, draw_downstream(clean, target))
    for name, text in {"results.csv": to_csv(table), **downstream_csv(clean)}.items():
        atomic_write_text(target / name, text)
    distilled = f"{headline(table)}\n\n{summary_markdown(table)}" if table.rows or not finetuned else ""
    parts = [distilled, downstream_markdown(clean)]
    atomic_write_text(target / "results.md", "\n".join(filter(None, parts)))
    heading = title or (clean.recipe.get("report") or {}).get("title") or clean.name
    page = render(clean, pictures=pictures, title=heading, found=found, downstream=finetuned)
    return atomic_write_text(target / FILE_NAME, page)


def draw_pictures(record: RunRecord, folder: Path) -> dict[str, Path]:
    """Draw what the record has data for, and return the PNG files by name."""
    pictures: dict[str, Path] = {}
    curves = learning_curves_info(record)
    if any(curve.steps for curve in curves.curves):
        pictures["learning_curves"] = plot_learning_curves(curves, folder / "learning_curves.png")
    teacher = teacher_curve_info(record)
    if teacher is not None and teacher.scores:
        pictures["teacher_curve"] = plot_teacher_curve(teacher, folder / "teacher_curve.png")
    parts = loss_parts_info(record)
    if parts.panels:
        pictures["loss_parts"] = plot_loss_parts(parts, folder / "loss_parts.png")
    costs = costs_info(record)
    if any(row.seconds is not None for row in costs):
        pictures["costs"] = plot_costs(costs, folder / "costs.png")
    return pictures


def render(
    record: RunRecord,
    *,
    pictures: dict[str, Path],
    title: str,
    found: Beside | None = None,
    downstream: Sequence[DownstreamSection] = (),
) -> str:
    """Return the page as HTML, pictures embedded, every value of the record escaped."""
    table = summary_table(record)
    return render_page(
        "report.html.jinja",
        title=title,
        generator=f"hf_distill {record.versions.get('hf-distill', '')}",
        record=record,
        headline=headline(table)
        if table.rows or not downstream
        else "Nothing was distilled: a student was fine-tuned.",
        heads=headers(table),
        rows=[(series_colour(row.place), cells(table, row)) for row in table.rows],
        pictures={name: embedded(path, _alt(name, record)) for name, path in pictures.items()},
        facts=facts_of(record),
        stages=stage_rows(record),
        formulas=loss_formulas(record),
        costs=[row for row in costs_info(record) if any(value is not None for value in row[2:])],
        revisions=revision_rows(record),
        model_heads=model_headers(record),
        models=[model_cells(row) for row in models_info(record)],
        taught_by=str(record.teacher.get("source") or ""),
        recipe=yaml.safe_dump(record.recipe, sort_keys=False, allow_unicode=True),
        command=wording.command_line(record.command),
        evaluation=evaluation_sections(found.evaluation) if found is not None else [],
        contributions=contributions_section(found.contributions) if found is not None else None,
        downstream=downstream,
    )


def _alt(name: str, record: RunRecord) -> str:
    metric = wording.words(str(record.task["metric"]))
    return {
        "learning_curves": f"Held-out {metric} of every curriculum over optimizer steps",
        "teacher_curve": "Held-out scores of the teacher's revisions over its training",
        "loss_parts": "Parts of the loss over optimizer steps",
        "costs": "Seconds of one student of every curriculum, with the teacher's share",
        "pareto": f"Held-out {metric} of teacher, students and baselines against their cost, with the Pareto front",
        "contributions": "Sensitivity of the parameters by rank, and the score while the least sensitive are zeroed",
    }[name]
