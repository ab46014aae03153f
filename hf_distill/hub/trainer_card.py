"""Card and record of a student that was trained from Python: what the trainer knows, and nothing that it does not."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping, Sequence, Sized
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import BaseImageProcessor, PreTrainedTokenizerBase, TrainingArguments

from hf_distill.atomic import atomic_write_bytes, atomic_write_text
from hf_distill.hub.card import FILE_NAME, student_card
from hf_distill.hub.card_data import is_hub_id
from hf_distill.hub.push import public_record
from hf_distill.models.compatibility import unwrap_peft
from hf_distill.run_record import FILE_NAME as RECORD_NAME
from hf_distill.run_record import RunRecord
from hf_distill.training.student_run import student_run
from hf_distill.training.switching import TIMINGS, held_out_points
from hf_distill.versions import package_versions

if TYPE_CHECKING:
    from hf_distill.trainer import ProgressiveDistillTrainer

CARD_ARGUMENTS = ("model_name", "finetuned_from", "tasks", "dataset_tags", "dataset", "dataset_args")
_NO_SETTINGS = ("output_dir", "curriculum", "hub_token", "push_to_hub_token", "run_name")


def save_trainer_card(
    trainer: ProgressiveDistillTrainer,
    *,
    license: str | None = None,
    language: str | list[str] | None = None,
    tags: Sequence[str] = (),
    model_name: str | None = None,
    datasets: Sequence[str] = (),
    pretrained: str | None = None,
) -> Path:
    """Write README.md into the trainer's `output_dir`: the card of the student as trained so far.

    Args:
        trainer: After `train()`, or in it.
        license: Id of a license of the Hub.
        language: ISO 639 code or codes.
        tags: More tags than the card's own.
        model_name: Title. Default: the name of `output_dir`.
        datasets: Ids of data sets of the Hub.
        pretrained: Hub id of what the student was before. Default: what its configuration says.

    Raises:
        ValueError: The trainer has not trained.
    """
    record = trainer_record(trainer, datasets=datasets, pretrained=pretrained)
    run = record.runs[0]
    card = student_card(
        record,
        curriculum=run.curriculum,
        seed=run.seed,
        name=model_name or record.name,
        repo_id=trainer.hub_model_id,
        license=license,
        language=language,
    )
    card.data["tags"] = list(dict.fromkeys([*(card.data.get("tags") or []), *tags]))
    return atomic_write_text(Path(trainer.args.output_dir) / FILE_NAME, str(card).rstrip() + "\n")


def save_trainer_record(trainer: ProgressiveDistillTrainer, *, ended: bool | None = None) -> Path:
    """Write run_record.json into the trainer's `output_dir`, fit to be published.

    Args:
        trainer: After `train()`, or in it.
        ended: As for `trainer_record`.

    Raises:
        ValueError: The trainer has not trained.
    """
    record = trainer_record(trainer, ended=ended)
    return atomic_write_bytes(Path(trainer.args.output_dir) / RECORD_NAME, public_record(record))


def trainer_record(
    trainer: ProgressiveDistillTrainer,
    *,
    datasets: Sequence[str] = (),
    pretrained: str | None = None,
    ended: bool | None = None,
) -> RunRecord:
    """Return the record of one student trained from Python. It has no recipe, but the settings that were changed.

    Args:
        trainer: After `train()`, or in it.
        datasets: Ids of data sets of the Hub.
        pretrained: Hub id of what the student was before.
        ended: Whether training has ended. Default: what the trainer says, which is late in `on_train_end`.

    Raises:
        ValueError: The trainer has not trained.
    """
    args = trainer.args
    ended = not trainer.is_in_train if ended is None else ended
    metrics = last_metrics(trainer, ended=ended)
    metric, greater = metric_of(args, metrics)
    curriculum = args.curriculum_spec()
    run = student_run(
        trainer,
        curriculum=curriculum["name"],
        folder=".",
        final_metrics=metrics,
        metric=metric,
        level=None,
        greater_is_better=greater,
    )
    finished = datetime.now(timezone.utc)
    return RunRecord(
        name=Path(args.output_dir).absolute().name,
        recipe={"curriculum": curriculum, "training": changed_arguments(args)},
        command=[],
        versions=package_versions(),
        environment={"device": str(args.device), "processes": args.world_size},
        started=(finished - timedelta(seconds=trainer.training_seconds)).isoformat(timespec="seconds"),
        finished=finished.isoformat(timespec="seconds") if ended else None,
        task={
            "name": trainer.distillation.head,
            "head": trainer.distillation.head,
            "metric": metric,
            "greater_is_better": greater,
            "level": None,
            "description": _description(trainer, datasets),
        },
        teacher=_teacher(trainer),
        student=_student(trainer, pretrained),
        runs=[run],
    )


def last_metrics(trainer: ProgressiveDistillTrainer, *, ended: bool) -> dict[str, float]:
    """Return the held-out metrics of the student as it is: the last, or those of the best where that was loaded."""
    points = held_out_points(trainer.state.log_history)
    best = trainer.state.best_global_step
    if trainer.args.load_best_model_at_end and best and ended:
        points = [point for point in points if point["step"] == best]
    last = points[-1] if points else {}
    return {key: value for key, value in last.items() if key != "step" and not key.endswith(TIMINGS)}


def metric_of(args: TrainingArguments, metrics: dict[str, float]) -> tuple[str, bool]:
    """Return the metric that tables show and whether more of it is better: the one that was set, else the first."""
    chosen = (args.metric_for_best_model or "").removeprefix("eval_")
    if not chosen or (metrics and chosen not in metrics):
        chosen = next((key for key in metrics if key != "loss"), "loss")
        return chosen, not chosen.endswith("loss")
    greater = args.greater_is_better
    return chosen, not chosen.endswith("loss") if greater is None else greater


def changed_arguments(args: TrainingArguments) -> dict[str, Any]:
    """Return the training arguments that are not at their default, without paths and tokens."""
    changed = {}
    values = args.to_dict()
    for field in dataclasses.fields(args):
        default = field.default.value if isinstance(field.default, enum.Enum) else field.default
        value = values.get(field.name)
        if field.init and field.name not in _NO_SETTINGS and value not in (None, {}, []) and value != default:
            changed[field.name] = value
    return changed


def check_card_arguments(given: Mapping[str, Any]) -> None:
    """Refuse what `Trainer.create_model_card` does not take.

    Raises:
        TypeError: With the unknown names and those there are.
    """
    unknown = sorted(set(given) - set(CARD_ARGUMENTS))
    if unknown:
        raise TypeError(f"create_model_card does not take {unknown}; it takes {', '.join(CARD_ARGUMENTS)}")


def _description(trainer: ProgressiveDistillTrainer, datasets: Sequence[str]) -> dict[str, Any]:
    beside = trainer.processing_class
    return {
        "datasets": list(datasets),
        "inputs": unwrap_peft(trainer.accelerator.unwrap_model(trainer.model)).main_input_name,
        "tokenizer": type(beside).__name__ if isinstance(beside, PreTrainedTokenizerBase) else None,
        "image_processor": type(beside).__name__ if isinstance(beside, BaseImageProcessor) else None,
        "train_rows": len(trainer.train_dataset) if isinstance(trainer.train_dataset, Sized) else None,
        "validation_rows": len(trainer.eval_dataset)
        if isinstance(trainer.eval_dataset, Sized) and not isinstance(trainer.eval_dataset, dict)
        else None,
    }


def _teacher(trainer: ProgressiveDistillTrainer) -> dict[str, Any]:
    if trainer.teacher is None:
        return {}
    revisions = trainer.teacher.manifest()
    return {
        "kind": trainer.teacher.kind,
        "source": ", ".join(dict.fromkeys(revision["source"] for revision in revisions)),
        "revisions": revisions,
        "chosen": trainer.distillation.chosen_revision,
    }


def _student(trainer: ProgressiveDistillTrainer, pretrained: str | None) -> dict[str, Any]:
    model = trainer.accelerator.unwrap_model(trainer.model)
    name = pretrained or model.config.name_or_path
    known = bool(name) and is_hub_id(name)
    origin = {"pretrained": name} if known else {"architecture": model.config.model_type}
    return {"origin": origin, "parameters": sum(parameter.numel() for parameter in model.parameters())}
