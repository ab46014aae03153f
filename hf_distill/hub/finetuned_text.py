"""The sections of a fine-tuned model's card as Markdown, every figure from the run's record."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import yaml

from hf_distill.hub.card_data import adapter_text
from hf_distill.hub.card_text import costs_table, data_table, fenced, revisions_table, stages_table
from hf_distill.hub.card_use import own_architecture, use_code
from hf_distill.hub.citations import citations, taught_by
from hf_distill.hub.lineage import DISTILLED, Lineage
from hf_distill.recipe.finetune_spec import FROM_SCRATCH, STUDENT, TEACHER
from hf_distill.report import wording
from hf_distill.report.tables import (
    SummaryRow,
    SummaryTable,
    cells,
    headers,
    headline,
    markdown_text,
    spread,
    summary_table,
    to_markdown,
)
from hf_distill.report.who_taught import model_cells, model_headers, models_info, taught_by_text
from hf_distill.run_record import RunRecord, StudentRun

_OF_DISTILLATION = ("teacher_share", "swap_stall_seconds")


def finetuned_card_text(record: RunRecord, line: Lineage, *, repo_id: str | None) -> dict[str, Any]:
    """Return the variables of the template, escaped for Markdown.

    Args:
        record: The run.
        line: The model and where it comes from.
        repo_id: Where it is on the Hub, for the example code; None for the folder of the card.
    """
    table = summary_table(line.task)
    of_this = {key: value for key, value in line.run.costs.items() if key not in _OF_DISTILLATION}
    cited = citations(line.student, record.teacher) if line.student is not None else []
    sections = {
        "summary": _summary(record, line),
        "headline": markdown_text(headline(table)),
        "lineage_table": _lineage(record, line),
        "lineage_sentence": _lineage_sentence(record, line),
        "revisions_table": revisions_table(line.taught) if line.taught else "",
        "stages_table": stages_table(line.student) if line.student is not None else "",
        "settings_table": _settings(line),
        "data_table": data_table(line.task),
        "metrics_table": _metrics(line),
        "comparison_table": to_markdown(_headers(table), [cells(table, row) for row in table.rows]),
        "spread_sentence": spread_sentence(line),
        "cost_table": costs_table(line.task, dataclasses.replace(line.run, costs=of_this)),
        "code_block": fenced(use_code(line.task, repo_id), "python"),
        "command_block": fenced(wording.command_line(record.command), "bash") if record.command else "",
        "recipe_block": fenced(yaml.safe_dump(record.recipe, sort_keys=False, allow_unicode=True), "yaml"),
        "versions_table": to_markdown(["package", "version"], list(record.versions.items())),
        "citation_block": fenced("\n\n".join(cited), "bibtex") if cited else "",
    }
    return {
        **{name: text.rstrip() for name, text in sections.items()},
        "seed": line.run.seed,
        "limits": _limits(line),
    }


def _headers(table: SummaryTable) -> list[str]:
    names = {
        "curriculum": "fine-tuned from",
        "time of a student": "time",
        "student ÷ teacher": "÷ teacher, fine-tuned",
    }
    return [names.get(head, head) for head in headers(table)]


def spread_sentence(line: Lineage) -> str:
    """Compare where this model began with new weights, over the seeds: whether the two ranges lie apart."""
    if line.start == FROM_SCRATCH:
        return "This model is the baseline from new weights: nobody taught it."
    rows = {row.curriculum: row for row in summary_table(line.task).rows}
    if FROM_SCRATCH not in line.baselines:
        return "No model from new weights was fine-tuned in this run to compare with."
    mine, new = rows[line.run.curriculum], rows[FROM_SCRATCH]
    metric = wording.words(str(line.task.task["metric"]))
    if not mine.measured or not new.measured:
        return f"The {metric} is not known on both sides, so this start and new weights cannot be compared."
    label = markdown_text(line.run.curriculum)
    found = f"{metric} from {label}: {spread(mine)}; from new weights: {spread(new)}."
    if min(mine.measured, new.measured) == 1:
        return f"{found} With one seed there is no spread to judge the difference by."
    greater = bool(line.task.task["greater_is_better"])
    if _is_apart(mine, new, greater=greater):
        return f"{found} Every seed from {label} is better than every one from new weights."
    if _is_apart(new, mine, greater=greater):
        return f"{found} Every seed from new weights is better than every one from {label}."
    return f"{found} The two ranges overlap: these seeds do not tell the two starts apart."


def _is_apart(one: SummaryRow, other: SummaryRow, *, greater: bool) -> bool:
    assert one.low is not None and one.high is not None and other.low is not None and other.high is not None
    return one.low > other.high if greater else one.high < other.low


def _summary(record: RunRecord, line: Lineage) -> str:
    model = markdown_text(wording.model_name(line.task.student))
    made = f"A model ({model}) for {_task_name(line)}, fine-tuned with labels by hf_distill"
    if line.student is None:
        return {
            FROM_SCRATCH: f"A model ({model}) for {_task_name(line)}, trained with labels from new weights: the "
            "baseline that the run's fine-tuned students are compared with.",
            TEACHER: f"{made} from the finished teacher: what the run's fine-tuned students are compared with.",
        }.get(line.start, f"{made} from a student that was there already.")
    revisions = taught_by(line.student)
    what = markdown_text(taught_by_text(record.teacher, len(revisions))) if revisions else "labels alone"
    return f"{made} from a student, which learned from {what}, by the curriculum `{line.run.curriculum}`."


def _task_name(line: Lineage) -> str:
    title = wording.task_title(line.task.task)
    name = markdown_text(title)
    return name if wording.words(line.block).lower() in title.lower() else f"{name} (`{line.block}`)"


def _lineage(record: RunRecord, line: Lineage) -> str:
    teacher, student = record.teacher, record.student
    rows = []
    if line.taught:
        model = str(teacher.get("model") or teacher.get("source") or wording.UNKNOWN)
        learned = str(teacher.get("learned_from") or wording.UNKNOWN)
        rows.append(["teacher", model, learned, wording.count(teacher.get("parameters")), "below"])
    if line.student is not None:
        by = f", by {line.run.curriculum}" if line.taught else ""
        learned = f"{'its teacher' if line.taught else 'labels'}{by}{adapter_text(student)}"
        rows.append(
            ["student", wording.model_name(student), learned, wording.count(student.get("parameters")), _pin(line)]
        )
    elif line.start in (STUDENT, TEACHER):
        known = teacher if line.start == TEACHER else student
        learned, size = str(known.get("learned_from") or wording.UNKNOWN), wording.count(known.get("parameters"))
        rows.append([line.start, wording.model_name(line.task.student), learned, size, _pin(line)])
    was = "new weights" if line.start == FROM_SCRATCH else f"the {line.start.replace(DISTILLED, STUDENT)}, fine-tuned"
    rows.append(["this model", was, f"labels of {line.block}", wording.UNKNOWN, wording.UNKNOWN])
    text = to_markdown(["", "model", "learned from", "parameters", "commit or content hash"], rows, left=3)
    behind = models_info(record) if line.taught else []
    if behind:
        text += "\n" + to_markdown(model_headers(record), [model_cells(row) for row in behind], left=3)
    return text


def _pin(line: Lineage) -> str:
    if line.began_with is None:
        return wording.UNKNOWN
    return line.began_with.commit


def _lineage_sentence(record: RunRecord, line: Lineage) -> str:
    parts = []
    if line.pushed is not None:
        parts.append(f"The student is `{line.pushed.repo_id}` on the Hub, at commit {line.pushed.commit}.")
    found = next((block for block in record.downstream if block.name == line.block), None)
    share = found.carried.get(line.run.curriculum) if found is not None else None
    if share is not None:
        whom = "teacher" if line.start == TEACHER else "student"
        parts.append(
            f"When the fine-tuning began, {wording.percent(share)} of this model's parameters were the {whom}'s"
            f"{'' if share == 1 else ' and the others were drawn anew'}."
        )
    metric = str(record.task["metric"])
    own = line.student.final_metrics.get(metric) if line.student is not None else None
    if own is not None:
        name, task = wording.words(metric), markdown_text(wording.task_title(record.task))
        theirs = (record.teacher.get("final_metrics") or {}).get(metric) if line.taught else None
        beside = f", its teacher at {wording.number(theirs)}" if theirs is not None else ""
        parts.append(
            f"On the task it was distilled for ({task}) the student was at {name} {wording.number(own)}{beside}."
        )
    return " ".join(parts)


def _settings(line: Lineage) -> str:
    task = {key: value for key, value in (line.spec.get("task") or {}).items() if key not in ("name", "data")}
    rows = [["loss", line.run.loss_formula], ["optimizer steps", wording.count(line.run.stages[-1].end)]]
    rows += [[f"task: {wording.words(key)}", _plain(value)] for key, value in task.items()]
    rows += [[wording.words(key), _plain(value)] for key, value in (line.spec.get("training") or {}).items()]
    rows.append(["seed of weights, data and dropout", str(line.run.seed)])
    return to_markdown(["", "setting"], rows, left=2)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _metrics(line: Lineage) -> str:
    of_seed = {run.curriculum: run for run in line.task.runs if run.seed == line.run.seed}
    names = {FROM_SCRATCH: "from new weights", TEACHER: "its teacher, fine-tuned"}
    beside: dict[str, StudentRun] = {
        names[label]: of_seed[label]
        for label in line.baselines
        if label in of_seed and label != line.run.curriculum and line.start != FROM_SCRATCH
    }
    rows = [
        [
            wording.words(key),
            wording.number(value),
            *(wording.number(one.final_metrics.get(key)) for one in beside.values()),
        ]
        for key, value in line.run.final_metrics.items()
    ]
    return to_markdown(["metric", "this model", *beside], rows)


def _limits(line: Lineage) -> list[str]:
    seeds = len([run for run in line.task.runs if run.curriculum == line.run.curriculum])
    rows = (line.task.task.get("description") or {}).get("validation_rows")
    own, limits = own_architecture(line.task), []
    if own:
        limits.append(
            f"Needs hf_distill (`pip install hf-distill`): transformers does not know its architecture `{own}`."
        )
    counted = f"{wording.count(rows)} held-out rows" if rows else "held-out rows"
    limits.append(f"Measured on {counted} of the data above and nowhere else.")
    if seeds == 1:
        limits.append("One seed: nothing is known about the spread between seeds.")
    else:
        limits.append(
            f"One of {seeds} seeds; differences within their spread mean little, and the figure of a seed that was "
            "chosen for it is too good: the median says more."
        )
    if line.taught:
        limits.append("Its student took over mistakes and biases of the teacher; they were not examined here.")
    limits.append("Compare beginnings at this recipe's settings only: rates and lengths were not tuned for each.")
    return limits
