"""A student on the Hub: model, card, run record and learning curves in one commit, whole or not at all."""

from __future__ import annotations

import json
import logging
import math
import tempfile
from pathlib import Path
from typing import NamedTuple

from hf_distill.atomic import json_ready
from hf_distill.hub.card import student_card
from hf_distill.hub.card_data import base_models
from hf_distill.hub.hub_writer import HubWriter, Written
from hf_distill.hub.publishable import is_model_file, model_files, refuse_a_base_of_this_machine
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


def push_student(
    run_dir: str | Path,
    writer: HubWriter,
    *,
    curriculum: str | None = None,
    seed: int | None = None,
    private: bool = False,
    license: str | None = None,
) -> Written:
    """Push one student of a run to main, in one commit.

    Args:
        run_dir: Output folder of the run, with its run_record.json.
        writer: Of the repository, which is made where it does not exist.
        curriculum: Label of the student's curriculum; None for that of the best student.
        seed: Its seed; None for that of the best student.
        private: Make a private repository, and refuse one that is public.
        license: Id of a license of the Hub. Default: that of the record, or the one that the base models share.

    Raises:
        ValueError: No such student, its folder is not whole, or the Hub refuses.
        HubUnavailable: The Hub stayed out of reach; the repository is as it was.
    """
    record = RunRecord.load(run_dir)
    choice = choose_student(record, curriculum=curriculum, seed=seed)
    root = Path(run_dir) if Path(run_dir).is_dir() else Path(run_dir).parent
    weights = model_files(root / choice.run.folder)
    refuse_a_base_of_this_machine(weights)
    files: dict[str, Path | bytes] = {**weights}
    files[FILE_NAME] = public_record(record)
    curves = curves_of(record, root)
    if curves is not None:
        files[CURVES] = curves
    writer.create(private=private)
    license = license or record.student.get("license") or writer.license_of(base_models(record, choice.run))
    card = student_card(
        record,
        curriculum=choice.run.curriculum,
        seed=choice.run.seed,
        repo_id=writer.repo_id,
        license=license,
        picture=CURVES if curves is not None else None,
    )
    files["README.md"] = str(card).rstrip().encode() + b"\n"
    logger.info("Pushing %s to %s", choice.reason, writer.repo_id)
    message = f"Student of {record.name}: {choice.run.curriculum}, seed {choice.run.seed}"
    return writer.put(files, message=message, replaces=is_model_file)


def public_record(record: RunRecord) -> bytes:
    """Return the record as it is published: without tokens and without paths of this machine."""
    clean = json_ready(without_local_paths(without_secrets(record.to_dict())))
    return json.dumps(clean, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def curves_of(record: RunRecord, folder: Path) -> bytes | None:
    """Return the picture of the learning curves: the report's, or a new one; None where nothing was evaluated."""
    if (folder / CURVES).is_file():
        return (folder / CURVES).read_bytes()
    from hf_distill.report.curves import learning_curves_info, plot_learning_curves

    curves = learning_curves_info(record)
    if not any(curve.steps for curve in curves.curves):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        return plot_learning_curves(curves, Path(scratch) / CURVES).read_bytes()
