"""The sections of a student's card as Markdown: tables, sentences and code made from the record."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from hf_distill.hub.card_data import adapter_text, hub_datasets, on_hub, teachers_of
from hf_distill.hub.card_downstream import downstream_table
from hf_distill.hub.card_use import own_architecture, use_code
from hf_distill.hub.citations import citations, taught_by
from hf_distill.report import wording
from hf_distill.report.tables import headline, markdown_text, summary_markdown, summary_table, to_markdown
from hf_distill.report.who_taught import (
    ITSELF,
    indented,
    model_cells,
    model_headers,
    models_info,
    taught_by_text,
    with_members,
)
from hf_distill.run_record import RevisionRecord, RunRecord, StudentRun


def student_card_text(record: RunRecord, run: StudentRun, *, repo_id: str | None) -> dict[str, Any]:
    """Return the variables of the template, escaped for Markdown."""
    taught = teachers_of(record, run)
    others = [revision for revision in record.revisions() if revision not in taught]
    table, cited = summary_table(record), citations(run, record.teacher)
    sections = {
        "summary": _summary(record, run),
        "headline": markdown_text(headline(table)),
        "models_table": _models(record, run),
        "revisions_sentence": _revisions_sentence(record, run),
        "revisions_table": revisions_table(taught),
        "other_revisions_table": revisions_table(others) if others else "",
        "stages_table": stages_table(run),
        "loss_formula": markdown_text(run.loss_formula),
        "data_table": data_table(record),
        "metrics_table": _metrics(record, run),
        "comparison_table": summary_markdown(table),
        "baselines_sentence": _baselines(record, run),
        "downstream_table": downstream_table(record, run),
        "cost_table": costs_table(record, run),
        "code_block": fenced(use_code(record, repo_id), "python"),
        "command_block": fenced(wording.command_line(record.command), "bash") if record.command else "",
        "recipe_block": fenced(yaml.safe_dump(record.recipe, sort_keys=False, allow_unicode=True), "yaml"),
        "versions_table": to_markdown(["package", "version"], list(record.versions.items())),
        "citation_block": fenced("\n\n".join(cited), "bibtex") if cited else "",
    }
    return {
        **{name: text.rstrip() for name, text in sections.items()},
        "teacher_taught": bool(taught_by(run)),
        "seed": run.seed,
        "limits": _limits(record, run),
    }


def fenced(text: str, language: str) -> str:
    """Return a code block whose fence is longer than any run of backticks inside."""
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def _summary(record: RunRecord, run: StudentRun) -> str:
    student = wording.model_name(record.student)
    revisions = taught_by(run)
    task = markdown_text(wording.task_title(record.task))
    made = f"A student ({markdown_text(student)}) for {task}, trained with hf_distill{adapter_text(record.student)}"
    if not revisions:
        return f"{made} from labels alone, as the curriculum `{run.curriculum}`."
    what = markdown_text(taught_by_text(record.teacher, len(revisions)))
    return f"{made}: it learned from {what}, by the curriculum `{run.curriculum}`."


def _models(record: RunRecord, run: StudentRun) -> str:
    student, teacher = record.student, record.teacher
    rows = [["student", wording.model_name(student), wording.count(student.get("parameters"))]]
    if taught_by(run):
        rows.append(
            ["teacher", str(teacher.get("source") or wording.UNKNOWN), wording.count(teacher.get("parameters"))]
        )
    text = to_markdown(["", "model", "parameters"], rows, left=2)
    large, small = teacher.get("parameters"), student.get("parameters")
    if taught_by(run) and large and small:
        text += f"\nThe teacher has {large / small:.3g} times the parameters of the student.\n"
    models = models_info(record) if taught_by(run) else []
    if models:
        text += "\n" + to_markdown(model_headers(record), [model_cells(row) for row in models], left=3)
    return text


def _revisions_sentence(record: RunRecord, run: StudentRun) -> str:
    chosen = record.teacher.get("chosen")
    if chosen not in taught_by(run):
        return "These revisions taught, each pinned to a commit or to the hash of its content:"
    reason = record.teacher.get("reason")
    why = f": {markdown_text(str(reason))}" if reason else ""
    return (
        "These revisions taught, each pinned to a commit or to the hash of its content. "
        f"`{chosen}` is the one that the selection rule names{why}."
    )


def revisions_table(revisions: Sequence[RevisionRecord]) -> str:
    """List revisions, and what they are made of, with their pins."""
    rows = [
        [indented(one.name, depth), _place(one), wording.count(one.step), one.commit]
        for revision in revisions
        for depth, one in with_members(revision)
    ]
    return to_markdown(["revision", "source", "step", "commit or content hash"], rows, left=2)


def _place(revision: RevisionRecord) -> str:
    if on_hub(revision) or revision.members or revision.name in ITSELF:
        return revision.source
    return "local folder"


def stages_table(run: StudentRun) -> str:
    """List the stages of a training: what was learned from, by which loss, and when."""
    rows = [
        [
            stage.name,
            stage.revision or wording.UNKNOWN,
            " + ".join(stage.terms),
            wording.count(stage.start),
            wording.count(stage.end),
        ]
        for stage in run.stages
    ]
    return to_markdown(["stage", "revision", "loss", "from step", "to step"], rows, left=3)


def data_table(record: RunRecord) -> str:
    """Say what the data are, where they came from, and how many."""
    description = record.task.get("description") or {}
    ids = ", ".join(name if commit is None else f"{name}@{commit}" for name, commit in hub_datasets(description))
    entries = [
        ("source", description.get("source")),
        ("data sets of the Hub", ids),
        ("preprocessing", description.get("preprocessing")),
        ("rows to train on", wording.count(description.get("train_rows"))),
        ("rows held out", wording.count(description.get("validation_rows"))),
    ]
    return to_markdown(["", "data"], [[label, str(text)] for label, text in entries if text], left=2)


def _metrics(record: RunRecord, run: StudentRun) -> str:
    teacher = (record.teacher.get("final_metrics") or {}) if taught_by(run) else {}
    heads = ["metric", "this student", *(["teacher"] if teacher else [])]
    rows = [
        [wording.words(key), wording.number(value), *([wording.number(teacher.get(key))] if teacher else [])]
        for key, value in run.final_metrics.items()
    ]
    return to_markdown(heads, rows)


def _baselines(record: RunRecord, run: StudentRun) -> str:
    """Say which baselines were run beside this student: labels alone, and the finished teacher alone."""
    revisions = record.revisions()
    final = revisions[-1].name if revisions else None
    labels = {other.curriculum for other in record.runs if not taught_by(other)} - {run.curriculum}
    one_shot = {other.curriculum for other in record.runs if taught_by(other) == [final]} - {run.curriculum}
    parts = [
        f"{_names(found)} {'is' if len(found) == 1 else 'are'} the baseline that learned from {source}."
        for found, source in ((labels, "labels alone"), (one_shot, "the finished teacher alone"))
        if found
    ]
    missing = []
    if taught_by(run) and not labels:
        missing.append("labels alone")
    if len(taught_by(run)) > 1 and not one_shot:
        missing.append("the finished teacher alone")
    if missing:
        parts.append(f"No student that learned from {' or '.join(missing)} was trained in this run to compare with.")
    return " ".join(parts)


def _names(names: set[str]) -> str:
    return " and ".join(f"`{name}`" for name in sorted(names))


def costs_table(record: RunRecord, run: StudentRun) -> str:
    """List what was measured of a training's cost."""
    costs = run.costs
    entries = [
        ("time of training, with its evaluations", wording.seconds(costs.get("seconds"))),
        ("median optimizer step", wording.seconds(costs.get("median_step_seconds"))),
        ("share of a step spent in the teacher", wording.percent(costs.get("teacher_share"))),
        ("waiting for revisions, in all", wording.seconds(costs.get("swap_stall_seconds"))),
        ("examples per second", wording.count(costs.get("examples_per_second"))),
        ("tokens per second", wording.count(costs.get("tokens_per_second"))),
        ("peak memory", wording.size(costs.get("peak_memory_bytes"))),
        (
            "training the teachers" if record.teacher.get("models") else "training the teacher",
            wording.seconds(record.teacher.get("seconds")) if taught_by(run) else wording.UNKNOWN,
        ),
        ("latency of this student", _latency(record.student)),
        ("latency of the teacher", _latency(record.teacher) if taught_by(run) else wording.UNKNOWN),
        ("weights of this student", wording.size((record.student.get("latency") or {}).get("weight_bytes"))),
        ("device", str(record.environment.get("device") or "")),
    ]
    rows = [[label, text] for label, text in entries if text and text != wording.UNKNOWN]
    return to_markdown(["", "measured"], rows) if rows else "Not measured.\n"


def _latency(model: Mapping[str, Any]) -> str:
    found = model.get("latency")
    if not found:
        return wording.UNKNOWN
    low, high = wording.seconds(found["low_seconds"]), wording.seconds(found["high_seconds"])
    rows = "1 example" if found["examples"] == 1 else f"{found['examples']} examples"
    return (
        f"{wording.seconds(found['median_seconds'])} for {rows} on {found['device']}, median of {found['repeats']} "
        f"[{low} – {high}]"
    )


def _limits(record: RunRecord, run: StudentRun) -> list[str]:
    seeds = len([other for other in record.runs if other.curriculum == run.curriculum])
    description = record.task.get("description") or {}
    rows = description.get("validation_rows")
    limits = [
        f"Measured on {wording.count(rows)} held-out rows of the data above and nowhere else."
        if rows
        else "Measured on held-out rows of the data above and nowhere else."
    ]
    own = own_architecture(record)
    if own:
        needs = f"Needs hf_distill (`pip install hf-distill`): transformers does not know its architecture `{own}`."
        limits.insert(0, needs)
    if seeds == 1:
        limits.append("One seed: nothing is known about the spread between seeds.")
    else:
        limits.append(f"The spread above is over {seeds} seeds; differences within it mean little.")
    if taught_by(run):
        limits.append("A student takes over its teacher's mistakes and biases; they were not examined here.")
    limits.append("Compare curricula at this recipe's settings only: rates and stage lengths were not tuned for each.")
    return limits
