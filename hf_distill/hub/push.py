"""A student, or one fine-tuned, on the Hub: model, card, run record and curves in one commit, or nothing of it."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import tempfile
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import ModelCard

from hf_distill.atomic import json_ready
from hf_distill.hub.card import FILE_NAME as CARD_NAME
from hf_distill.hub.card import student_card
from hf_distill.hub.card_data import base_models
from hf_distill.hub.finetuned_card import finetuned_card
from hf_distill.hub.hub_writer import HubWriter, Written
from hf_distill.hub.lineage import baselines_of, fine_tuned_bases, lineage_of, where_pushed
from hf_distill.hub.publishable import is_model_file, model_files, refuse_a_base_of_this_machine
from hf_distill.hub.pushed import Pushed, note_pushed
from hf_distill.recipe.finetune_spec import FROM_SCRATCH
from hf_distill.redaction import without_local_paths, without_secrets
from hf_distill.report import wording
from hf_distill.run_record import FILE_NAME, RunRecord, StudentRun

logger = logging.getLogger(__name__)

CURVES = "learning_curves.png"


class Choice(NamedTuple):
    """A student of a run, and why it is the one, for people."""

    run: StudentRun
    reason: str


def choose_student(record: RunRecord, *, curriculum: str | None = None, seed: int | None = None) -> Choice:
    """Return the student that is named, or the best by the record's metric among those that fit.

    Raises:
        ValueError: None fits; the message names those there are.
    """
    fitting = [run for run in record.runs if curriculum in (None, run.curriculum) and seed in (None, run.seed)]
    if not fitting:
        known = ", ".join(f"{run.curriculum} with seed {run.seed}" for run in record.runs) or "none"
        asked = " with ".join(
            [*([repr(curriculum)] if curriculum is not None else []), *([f"seed {seed}"] if seed is not None else [])]
        )
        raise ValueError(f"the run {record.name!r} has no student {asked or 'at all'}; it has: {known}")
    metric, greater = str(record.task["metric"]), bool(record.task["greater_is_better"])

    def rank(run: StudentRun) -> float:
        value = run.final_metrics.get(metric)
        if value is None or not math.isfinite(value):
            return -math.inf
        return value if greater else -value

    best = max(fitting, key=rank)
    student = f"{best.curriculum}, seed {best.seed}: {metric} {wording.number(best.final_metrics.get(metric))}"
    if len(fitting) == 1:
        return Choice(best, student)
    return Choice(best, f"{student}, the {'highest' if greater else 'lowest'} of {len(fitting)} students")


def choose_finetuned(
    record: RunRecord, block: str, *, curriculum: str | None = None, seed: int | None = None
) -> Choice:
    """Return the fine-tuned model that is named, or the best by the task's metric among those that fit.

    The baselines, from new weights and from the teacher, are chosen by their label only.

    Args:
        record: The run.
        block: Name of the downstream task.
        curriculum: Label of what it began with; None for that of the best.
        seed: Its seed; None for that of the best.

    Raises:
        ValueError: No such task, or no model fits; the message names those there are.
    """
    task = record.finetuned(block)
    labels = baselines_of(record, task)
    baselines = dataclasses.replace(task, runs=[run for run in task.runs if run.curriculum in labels])
    if curriculum is None:
        task = dataclasses.replace(task, runs=[run for run in task.runs if run.curriculum not in labels])
    choice = choose_student(task, curriculum=curriculum, seed=seed)
    new = next((row["median"] for row in baselines.summary() if row["curriculum"] == FROM_SCRATCH), None)
    beside = "" if new is None else f"; from new weights {wording.number(new)}, the median over seeds"
    return Choice(choice.run, f"{block}, fine-tuned from {choice.reason}{beside}")


def push_student(
    run_dir: str | Path,
    writer: HubWriter,
    *,
    curriculum: str | None = None,
    seed: int | None = None,
    private: bool = False,
    license: str | None = None,
    language: str | list[str] | None = None,
) -> Written:
    """Push one student of a run to main, in one commit.

    Args:
        run_dir: Output folder of the run, with its run_record.json.
        writer: Of the repository, which is made where it does not exist.
        curriculum: Label of the student's curriculum; None for that of the best student.
        seed: Its seed; None for that of the best student.
        private: Make a private repository, and refuse one that is public.
        license: Id of a license of the Hub. Default: that of the record, or the one that the base models share.
        language: ISO 639 code or codes, for the card.

    Raises:
        ValueError: No such student, its folder is not whole, or the Hub refuses.
        HubUnavailable: The Hub stayed out of reach; the repository is as it was.
    """
    record, root = RunRecord.load(run_dir), _root(run_dir)
    choice = choose_student(record, curriculum=curriculum, seed=seed)
    curves = curves_of(record, root / CURVES)
    files = _files(record, root / choice.run.folder, curves)
    writer.create(private=private)
    license = license or record.student.get("license") or writer.license_of(base_models(record, choice.run))
    card = student_card(
        record,
        curriculum=choice.run.curriculum,
        seed=choice.run.seed,
        repo_id=writer.repo_id,
        license=license,
        language=language,
        picture=CURVES if curves is not None else None,
    )
    message = f"Student of {record.name}: {choice.run.curriculum}, seed {choice.run.seed}"
    written = _put(writer, files, card, choice=choice, message=message)
    if root / choice.run.folder != root:
        _note(root, root / choice.run.folder, Pushed(writer.repo_id, written.commit))
    return written


def push_finetuned(
    run_dir: str | Path,
    writer: HubWriter,
    block: str,
    *,
    curriculum: str | None = None,
    seed: int | None = None,
    private: bool = False,
    license: str | None = None,
    language: str | list[str] | None = None,
) -> Written:
    """Push one fine-tuned model of a run to main, in one commit.

    Args:
        run_dir: Output folder of the run, with its run_record.json.
        writer: Of the repository, which is made where it does not exist.
        block: Name of the downstream task, as in the recipe's `finetune:`.
        curriculum: Label of what it began with; None for that of the best student's.
        seed: Its seed; None for that of the best.
        private: Make a private repository, and refuse one that is public.
        license: Id of a license of the Hub. Default: that of the record, or the one that the base models share.
        language: ISO 639 code or codes, for the card. Default: those that the task's options name.

    Raises:
        ValueError: No such task or model, its folder is not whole, or the Hub refuses.
        HubUnavailable: The Hub stayed out of reach; the repository is as it was.
    """
    record, root = RunRecord.load(run_dir), _root(run_dir)
    choice = choose_finetuned(record, block, curriculum=curriculum, seed=seed)
    run, pushed = choice.run, where_pushed(root, choice.run)
    line = lineage_of(record, block, curriculum=run.curriculum, seed=run.seed, pushed=pushed)
    # The fine-tuned teacher is a curve of its own there.
    curves = curves_of(dataclasses.replace(line.task, teacher={}), root / f"finetuned_{block}.png")
    files = _files(record, root / run.folder, curves)
    writer.create(private=private)
    license = license or line.task.student.get("license") or writer.license_of(fine_tuned_bases(record, line))
    card = finetuned_card(
        record,
        block,
        curriculum=run.curriculum,
        seed=run.seed,
        repo_id=writer.repo_id,
        license=license,
        language=language,
        picture=CURVES if curves is not None else None,
        pushed=pushed,
    )
    message = f"Fine-tuned in {record.name}: {block}, from {run.curriculum}, seed {run.seed}"
    return _put(writer, files, card, choice=choice, message=message)


def _root(run_dir: str | Path) -> Path:
    return Path(run_dir) if Path(run_dir).is_dir() else Path(run_dir).parent


def _files(record: RunRecord, folder: Path, curves: bytes | None) -> dict[str, Path | bytes]:
    """Return what is pushed of a model beside its card.

    Raises:
        ValueError: The folder is not whole, or nobody else could load what is in it.
    """
    weights = model_files(folder)
    refuse_a_base_of_this_machine(weights)
    files: dict[str, Path | bytes] = {**weights, FILE_NAME: public_record(record)}
    return files if curves is None else {**files, CURVES: curves}


def _put(
    writer: HubWriter, files: dict[str, Path | bytes], card: ModelCard, *, choice: Choice, message: str
) -> Written:
    logger.info("Pushing %s to %s", choice.reason, writer.repo_id)
    with_card = {**files, CARD_NAME: str(card).rstrip().encode() + b"\n"}
    return writer.put(with_card, message=message, replaces=is_model_file)


def _note(root: Path, folder: Path, pushed: Pushed) -> None:
    try:
        note_pushed(root, folder, pushed)
    except OSError as error:
        logger.warning("It is not noted in %s that the student was pushed: %s", root, error)


def public_record(record: RunRecord) -> bytes:
    """Return the record as it is published: without tokens and without paths of this machine."""
    clean = json_ready(without_local_paths(without_secrets(record.to_dict())))
    return json.dumps(clean, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def curves_of(record: RunRecord, drawn: Path) -> bytes | None:
    """Return the picture of a record's learning curves; None where nothing was evaluated.

    Args:
        record: The run, or a downstream task as a record of its own.
        drawn: The report's picture, taken where it is there.
    """
    if drawn.is_file():
        return drawn.read_bytes()
    from hf_distill.report.curves import learning_curves_info, plot_learning_curves

    curves = learning_curves_info(record)
    if not any(curve.steps for curve in curves.curves):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        return plot_learning_curves(curves, Path(scratch) / CURVES).read_bytes()
