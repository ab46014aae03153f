"""The page of a run: one HTML file that needs nothing else, and its pictures and tables as files beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from hf_distill.analysis.drawing import series_colour
from hf_distill.atomic import atomic_write_text
from hf_distill.redaction import without_secrets
from hf_distill.report import wording
from hf_distill.report.costs import costs_info, plot_costs
from hf_distill.report.curves import learning_curves_info, plot_learning_curves, runs_by_curriculum
from hf_distill.report.loss_parts import loss_parts_info, plot_loss_parts
from hf_distill.report.tables import cells, headers, headline, summary_markdown, summary_table, to_csv
from hf_distill.report.teacher_curve import plot_teacher_curve, teacher_curve_info
from hf_distill.report.who_taught import indented, model_cells, model_headers, models_info, with_members
from hf_distill.run_record import RunRecord
from hf_distill.strict_dataclass import from_mapping

FILE_NAME = "report.html"


class Picture(NamedTuple):
    """A picture on the page: its PNG as a data URL and what it shows, for those who do not see it."""

    data_url: str
    alt: str


def write_report(record: RunRecord, folder: str | Path, *, title: str | None = None) -> Path:
    """Write report.html, the PNGs, results.csv and results.md into a folder.

    Every file is replaced as a whole, the page last, so that a page never shows older pictures than its own. Access
    tokens in the recipe or the command line are blanked.

    Args:
        record: The run; it may be unfinished.
        folder: Made if it does not exist.
        title: Head of the page. Default: the recipe's `report.title`, else the name of the run.

    Returns:
        The path of the page.
    """
    target = Path(folder)
    clean = from_mapping(RunRecord, without_secrets(record.to_dict()))
    table = summary_table(clean)
    pictures = draw_pictures(clean, target)
    atomic_write_text(target / "results.csv", to_csv(table))
    atomic_write_text(target / "results.md", f"{headline(table)}\n\n{summary_markdown(table)}")
    heading = title or (clean.recipe.get("report") or {}).get("title") or clean.name
    return atomic_write_text(target / FILE_NAME, render(clean, pictures=pictures, title=heading))


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


def render(record: RunRecord, *, pictures: dict[str, Path], title: str) -> str:
    """Return the page as HTML, pictures embedded, every value of the record escaped."""
    table = summary_table(record)
    environment = Environment(
        loader=PackageLoader("hf_distill.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja").render(
        title=title,
        record=record,
        w=wording,
        headline=headline(table),
        heads=headers(table),
        rows=[(series_colour(row.place), cells(table, row)) for row in table.rows],
        pictures={name: Picture(_data_url(path), _alt(name, record)) for name, path in pictures.items()},
        facts=_facts(record),
        stages=_stages(record),
        formulas=_formulas(record),
        costs=[row for row in costs_info(record) if any(value is not None for value in row[2:])],
        revisions=_revisions(record),
        model_heads=model_headers(record),
        models=[model_cells(row) for row in models_info(record)],
        taught_by=str(record.teacher.get("source") or ""),
        recipe=yaml.safe_dump(record.recipe, sort_keys=False, allow_unicode=True),
        command=wording.command_line(record.command),
    )


def _data_url(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _alt(name: str, record: RunRecord) -> str:
    metric = wording.words(str(record.task["metric"]))
    return {
        "learning_curves": f"Held-out {metric} of every curriculum over optimizer steps",
        "teacher_curve": "Held-out scores of the teacher's revisions over its training",
        "loss_parts": "Parts of the loss over optimizer steps",
        "costs": "Seconds of one student of every curriculum, with the teacher's share",
    }[name]


def _facts(record: RunRecord) -> list[tuple[str, str]]:
    """Return what was run as pairs of a label and a text; what the record does not say is left out."""
    task, teacher, student = record.task, record.teacher, record.student
    description = task.get("description") or {}
    rows = [
        wording.count(description[key]) + f" {part}"
        for key, part in (("train_rows", "to train on"), ("validation_rows", "held out"))
        if description.get(key) is not None
    ]
    seeds = sorted({run.seed for run in record.runs})
    facts = [
        ("Task", " · ".join(filter(None, [task.get("name"), wording.words(str(task.get("head") or ""))]))),
        ("Data", str(description.get("source") or ", ".join(map(str, description.get("datasets") or [])))),
        ("Rows", ", ".join(rows)),
        ("Preprocessing", str(description.get("preprocessing") or "")),
        ("Teacher", _model(str(teacher.get("source") or ""), teacher.get("parameters"))),
        ("Student", _model(wording.model_name(student), student.get("parameters"))),
        ("Adapter", _adapter(student)),
        ("Students trained", f"{len(record.runs)} ({_plural('seed', seeds)})"),
        ("Started", _moment(record.started)),
        ("Time", _duration(record)),
    ]
    return [(label, text) for label, text in facts if text]


def _model(name: str, parameters: float | None) -> str:
    sized = "" if parameters is None else f"{wording.count(parameters)} parameters"
    return " · ".join(filter(None, [name, sized]))


def _adapter(student: Mapping[str, Any]) -> str:
    lora = student.get("lora")
    if not lora:
        return ""
    settings = ", ".join(f"{wording.words(key)} {value}" for key, value in lora.items())
    return f"LoRA ({settings}) · {wording.count(student.get('trained_parameters'))} parameters trained, then merged"


def _plural(word: str, values: Sequence[int]) -> str:
    return f"{word}{'' if len(values) == 1 else 's'} {', '.join(map(str, values))}"


def _moment(text: str) -> str:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return text


def _duration(record: RunRecord) -> str:
    if record.finished is None:
        return "not finished"
    try:
        ends = [datetime.fromisoformat(text.replace("Z", "+00:00")) for text in (record.started, record.finished)]
    except ValueError:
        return ""
    return f"{wording.seconds((ends[1] - ends[0]).total_seconds())}, teacher included"


def _stages(record: RunRecord) -> list[dict[str, Any]]:
    """Return the stages of all curricula as rows; steps that differ between seeds are given as a range."""
    rows: list[dict[str, Any]] = []
    for place, (curriculum, runs) in enumerate(runs_by_curriculum(record).items()):
        longest = max(runs, key=lambda run: len(run.stages)).stages
        for index, stage in enumerate(longest):
            same = [run.stages[index] for run in runs if index < len(run.stages)]
            rows.append(
                {
                    "curriculum": curriculum,
                    "colour": series_colour(place),
                    "rows": len(longest) if index == 0 else 0,
                    "name": stage.name,
                    "revision": stage.revision,
                    "terms": stage.terms,
                    "start": _range([one.start for one in same]),
                    "end": _range([one.end for one in same]),
                }
            )
    return rows


def _formulas(record: RunRecord) -> dict[str, str]:
    """Return each curriculum's loss, unless the table of its stages says the same."""
    return {
        run.curriculum: run.loss_formula
        for run in record.runs
        if run.stages and run.loss_formula != " + ".join(run.stages[-1].terms)
    }


def _range(steps: Sequence[int | None]) -> str:
    known = [step for step in steps if step is not None]
    if not known:
        return wording.UNKNOWN
    low, high = wording.count(min(known)), wording.count(max(known))
    return low if low == high else f"{low} – {high}"


def _revisions(record: RunRecord) -> list[dict[str, Any]]:
    taught = {stage.revision for run in record.runs for stage in run.stages}
    listed = [one for revision in record.revisions() for one in with_members(revision)]
    return [
        {**asdict(one), "name": indented(one.name, depth), "taught": not depth and one.name in taught}
        for depth, one in listed
    ]
