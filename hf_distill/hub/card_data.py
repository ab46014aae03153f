"""The metadata block of a student's card: what the Hub reads to file, filter and rank a model."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from hf_distill.hub.citations import taught_by
from hf_distill.report.who_taught import with_members
from hf_distill.report.wording import task_title, words
from hf_distill.run_record import RevisionRecord, RunRecord, StudentRun

PIPELINE_TAGS = {
    "classification": "text-classification",
    "regression": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
    "masked_lm": "fill-mask",
    "causal_lm": "text-generation",
}

PIPELINES = ("translation", "summarization")
"""Tasks that the Hub knows by their own names."""

IMAGE_TAG = "image-classification"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


def student_card_data(
    record: RunRecord, run: StudentRun, *, name: str, license: str | None, language: str | list[str] | None
) -> ModelCardData:
    """Return the metadata of one student, every value from the record or given.

    `base_model` holds the student's origin and the teachers of this student, as far as they are on the Hub. The Hub
    knows no relation for distillation; "finetune" is the nearest, and without it two base models would be taken for
    a merge.
    """
    description = record.task.get("description") or {}
    bases = base_models(record, run)
    return ModelCardData(
        model_name=name,
        base_model=bases or None,
        base_model_relation="finetune" if bases else None,
        datasets=[dataset for dataset, _ in hub_datasets(description)] or None,
        language=language,
        library_name="transformers",
        license=license,
        metrics=[str(record.task["metric"])],
        pipeline_tag=pipeline_tag(record),
        tags=tags_of(run),
        eval_results=eval_results(record, run),
    )


def base_models(record: RunRecord, run: StudentRun) -> list[str]:
    """Return the Hub ids of the student's origin and of the teachers that taught it."""
    origin = record.student.get("origin")
    pretrained = origin.get("pretrained") if isinstance(origin, dict) else origin
    found = [pretrained] if pretrained and is_hub_id(pretrained) else []
    made = record.student.get("made") or {}
    found += [made["teacher"]] if made.get("revision") and _HUB_ID.fullmatch(str(made.get("teacher"))) else []
    made_of = [one for revision in teachers_of(record, run) for _, one in with_members(revision)]
    found += [revision.source for revision in made_of if on_hub(revision)]
    return list(dict.fromkeys(found))


def adapter_text(student: Mapping[str, Any]) -> str:
    """Return in words how a student was adapted, with a space in front; nothing where it was not."""
    if not student.get("lora"):
        return ""
    quantised = " on a quantised base" if student.get("quantization") else ""
    if student.get("export") == "adapter":
        return f" as a LoRA adapter{quantised}, which is what lies here: its base is loaded beside"
    return f" as a LoRA adapter{quantised}, merged into its base"


def teachers_of(record: RunRecord, run: StudentRun) -> list[RevisionRecord]:
    """Return the revisions that taught a student, in the order of the teacher's training."""
    names = taught_by(run)
    return [revision for revision in record.revisions() if revision.name in names]


def on_hub(revision: RevisionRecord) -> bool:
    """Whether a revision is pinned to a commit of a repository, and not to the content of a local folder."""
    return bool(_COMMIT.fullmatch(revision.commit) and _HUB_ID.fullmatch(revision.source))


def is_hub_id(text: str) -> bool:
    """Whether `text` names a repository: it looks like one, and no folder of that name is there instead."""
    return bool(_HUB_ID.fullmatch(text)) and not Path(text).exists()


def hub_datasets(description: dict[str, Any]) -> list[tuple[str, str | None]]:
    """Return Hub id and commit of each data set; tasks write `id@commit`, or `id` alone."""
    found = []
    for entry in description.get("datasets") or []:
        name, _, commit = str(entry).partition("@")
        if is_hub_id(name):
            found.append((name, commit or None))
    return found


def has_tokenizer(record: RunRecord) -> bool:
    """Whether the student reads text, so that a tokenizer lies beside it."""
    return (record.task.get("description") or {}).get("tokenizer") is not None


def reads_images(record: RunRecord) -> bool:
    """Whether the student reads images."""
    return (record.task.get("description") or {}).get("inputs") == "pixel_values"


def has_image_processor(record: RunRecord) -> bool:
    """Whether the image processor of a student that reads images lies beside it."""
    return (record.task.get("description") or {}).get("image_processor") is not None


def pipeline_tag(record: RunRecord) -> str | None:
    """Return the pipeline of transformers that runs the student as it is saved, or None."""
    if reads_images(record):
        # The pipeline shows every image in RGB.
        grey = (record.task.get("description") or {}).get("channels") == 1
        return IMAGE_TAG if has_image_processor(record) and not grey else None
    if not has_tokenizer(record):
        return None
    name = str(record.task["name"])
    return name if name in PIPELINES else PIPELINE_TAGS.get(str(record.task["head"]))


def tags_of(run: StudentRun) -> list[str]:
    """Return the tags of a model that was distilled as `run` was."""
    revisions = len(taught_by(run))
    methods = ["knowledge-distillation", "progressive-distillation"][: min(revisions, 2)]
    return ["hf_distill", *methods, "generated_from_trainer"]


def eval_results(record: RunRecord, run: StudentRun) -> list[EvalResult]:
    """Return the held-out metrics of a run as a model-index has them; those that are not finite are left out."""
    task, description = record.task, record.task.get("description") or {}
    dataset, commit = next(iter(hub_datasets(description)), (None, None))
    tag = IMAGE_TAG if reads_images(record) else pipeline_tag(record)
    results = []
    for key, value in run.final_metrics.items():
        if value is not None and math.isfinite(value):
            metric, split = split_of(key, description)
            result = EvalResult(
                task_type=tag or str(task["head"]),
                task_name=task_title(task),
                dataset_type=dataset or str(task["name"]),
                dataset_config=description.get("config") if dataset else None,
                dataset_name=str(description.get("source") or dataset or task["name"]),
                dataset_split=split,
                dataset_revision=commit,
                metric_type=metric,
                metric_name=f"held-out {words(key)}",
                metric_value=value,
            )
            results.append(result)
    return results


def split_of(key: str, description: Mapping[str, Any]) -> tuple[str, str]:
    """Return a final metric without the name of its held-out set, and that set: `f1_test` is `f1` of `test`."""
    names = sorted(description.get("further_rows") or {}, key=len, reverse=True)
    further = next((name for name in names if key.endswith(f"_{name}")), None)
    return (key, "validation") if further is None else (key.removesuffix(f"_{further}"), further)
