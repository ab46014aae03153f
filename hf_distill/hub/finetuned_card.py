"""A fine-tuned model's card: from which teacher by which student it came, how it was fine-tuned, and how well it does.

Everything in it comes from the run record; tokens and paths of this machine are taken out first.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_distill.atomic import atomic_write_text
from hf_distill.hub.card import FILE_NAME, publishable_record, template_path
from hf_distill.hub.card_data import eval_results, hub_datasets, pipeline_tag, tags_of
from hf_distill.hub.finetuned_text import finetuned_card_text
from hf_distill.hub.lineage import Lineage, fine_tuned_bases, lineage_of, where_pushed
from hf_distill.hub.pushed import Pushed
from hf_distill.recipe.finetune_spec import FROM_SCRATCH, STUDENT
from hf_distill.report.tables import markdown_text
from hf_distill.run_record import RunRecord

TEMPLATE = "finetuned_card_template.md"
_LANGUAGE = re.compile(r"[a-z]{2,3}")


def finetuned_card(
    record: RunRecord,
    block: str,
    *,
    curriculum: str,
    seed: int,
    name: str | None = None,
    repo_id: str | None = None,
    license: str | None = None,
    language: str | list[str] | None = None,
    picture: str | None = None,
    pushed: Pushed | None = None,
) -> ModelCard:
    """Return the card of one fine-tuned model of a run.

    Args:
        record: The run.
        block: Name of the downstream task, as in the recipe's `finetune:`.
        curriculum: Label of what it began with: a curriculum, `from_scratch`, `teacher` or `student`.
        seed: Its seed.
        name: Title. Default: the run's name, the task, the label and the seed.
        repo_id: Where the model will be published, for the example code. Default: its folder.
        license: Id of a license of the Hub. Default: `license` of the record's student, or none.
        language: ISO 639 code or codes. Default: those that the task's options name, or none.
        picture: File name of the learning curves, if they lie beside the card.
        pushed: Where the student that it began with is on the Hub, if it is known.

    Raises:
        ValueError: The record has no such task or model; the message names those it has.
        FileNotFoundError: The template is missing from the installation.
    """
    record = publishable_record(record)
    line = lineage_of(record, block, curriculum=curriculum, seed=seed, pushed=pushed)
    title = name or f"{record.name}-{block}-{curriculum}-seed-{seed}"
    data = finetuned_card_data(record, line, name=title, license=license, language=language)
    text: dict[str, Any] = finetuned_card_text(record, line, repo_id=repo_id)
    return ModelCard.from_template(
        data, template_path=str(template_path(TEMPLATE)), title=markdown_text(title), picture=picture, **text
    )


def finetuned_card_data(
    record: RunRecord, line: Lineage, *, name: str, license: str | None, language: str | list[str] | None
) -> ModelCardData:
    """Return the metadata of a fine-tuned model, every value from the record or given.

    Data sets are those of the fine-tuning, then those that its student was distilled on.
    """
    descriptions = [line.task.task.get("description") or {}]
    if line.start not in (FROM_SCRATCH, STUDENT):
        descriptions.append(record.task.get("description") or {})
    datasets = [dataset for description in descriptions for dataset, _ in hub_datasets(description)]
    bases = fine_tuned_bases(record, line)
    return ModelCardData(
        model_name=name,
        base_model=bases or None,
        base_model_relation="finetune" if bases else None,
        datasets=list(dict.fromkeys(datasets)) or None,
        language=language or languages_of(line) or None,
        library_name="transformers",
        license=license or line.task.student.get("license"),
        metrics=[str(line.task.task["metric"])],
        pipeline_tag=pipeline_tag(line.task),
        tags=tags_of(line.student if line.student is not None else line.run),
        eval_results=_results(line),
    )


def languages_of(line: Lineage) -> list[str]:
    """Return the languages that the options of the fine-tuning's task name by their ISO 639 codes."""
    task = line.spec.get("task") or {}
    named = [str(task[key]) for key in ("language", "source_lang", "target_lang") if task.get(key)]
    return list(dict.fromkeys(code for code in named if _LANGUAGE.fullmatch(code)))


def save_finetuned_cards(record: RunRecord, root: str | Path, block: str) -> list[Path]:
    """Write the card of every fine-tuned model of a downstream task as README.md into its folder.

    Args:
        record: The run.
        root: Its folder.
        block: Name of the downstream task.

    Raises:
        ValueError: The record has no such task.
    """
    root, written = Path(root), []
    for run in record.finetuned(block).runs:
        card = finetuned_card(record, block, curriculum=run.curriculum, seed=run.seed, pushed=where_pushed(root, run))
        written.append(atomic_write_text(root / run.folder / FILE_NAME, str(card).rstrip() + "\n"))
    return written


def _results(line: Lineage) -> list[EvalResult]:
    results = eval_results(line.task, line.run)
    for result in results:
        result.metric_name = f"{result.metric_name}, seed {line.run.seed}"
    return results
