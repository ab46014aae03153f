"""What was run, as pairs of a label and a text; what the record does not say is left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from hf_distill.report import wording
from hf_distill.run_record import RunRecord


def facts_of(record: RunRecord) -> list[tuple[str, str]]:
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
        ("Task", " · ".join(filter(None, [wording.task_title(task), wording.words(str(task.get("head") or ""))]))),
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
