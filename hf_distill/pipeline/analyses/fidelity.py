"""`hf-distill analyze fidelity`: how closely the students follow each revision, and everybody's calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import torch
from tqdm.auto import tqdm

from hf_distill.analysis.fidelity import (
    BINS,
    CalibrationInfo,
    CalibrationTally,
    FidelityInfo,
    FidelityTally,
    plot_calibration,
    plot_fidelity,
)
from hf_distill.models.compatibility import shared_width
from hf_distill.pipeline.analyses.answers import Answer, folder_of_answers, identity, plain, plot_steps, save_answer
from hf_distill.pipeline.finished_run import FinishedRun, RunModel


class _Found(NamedTuple):
    teachers: list[RunModel]
    students: list[RunModel]
    fidelity: dict[str, list[FidelityInfo]]
    calibration: dict[str, CalibrationInfo]


def analyze_fidelity(
    run: FinishedRun, *, revisions: Sequence[str] = (), examples: int | None = None, bins: int = BINS
) -> Answer:
    """Compare each student with each revision of its teacher on held-out data, all at temperature 1.

    Args:
        run: The run.
        revisions: Names or patterns of revisions; all by default. The last one is what the table compares with.
        examples: Of the held-out data; all by default.
        bins: Of the calibration error.

    Raises:
        ValueError: No teacher or no finished student, other tokenizers, or a head without classes.
    """
    if run.task.head == "regression":
        raise ValueError("fidelity compares classes or tokens; this run's head is regression")
    places, students = run.revisions(revisions), list(run.students())
    if not students:
        raise ValueError(f"{run.workspace.root} has no finished student to look at; `hf-distill run` its recipe first")
    batches = run.batches("validation", examples=examples)
    found = _Found([], students, {s.name: [] for s in students}, {})
    for student in students:
        found.calibration[student.name] = _calibration(run, student, batches, bins)
    for teacher in tqdm(run.teacher_models(places), total=len(places), desc="Comparing", unit="revision"):
        found.calibration[teacher.name] = _calibration(run, teacher, batches, bins)
        for student in students:
            found.fidelity[student.name].append(_fidelity(run, student, teacher, batches))
        found.teachers.append(teacher._replace(model=None))
    numbers = [{**identity(m), "calibration": plain(found.calibration[m.name])} for m in (*found.teachers, *students)]
    for model in numbers:
        infos = found.fidelity.get(model["name"], []) if model["kind"] == "student" else []
        pairs = zip(found.teachers, infos, strict=False)
        model["fidelity"] = [{"revision": teacher.name, **plain(info)} for teacher, info in pairs]
    file = save_answer(run, "fidelity", numbers, examples=examples, bins=bins)
    final = found.teachers[-1].name
    return Answer(
        columns=("model", "accuracy", "calibration error", "agreement", "KL", "nearest revision"),
        rows=[_row(found, model) for model in (found.teachers[-1], *students)],
        note=f"agreement and KL(teacher‖student), in nats, with {final}; the nearest revision has the smallest KL",
        files=[file, *_draw(run, found)],
    )


def _row(found: _Found, model: RunModel) -> tuple[Any, ...]:
    calibration = found.calibration[model.name]
    row = (model.name, calibration.accuracy, calibration.error)
    if model.curriculum is None:
        return (*row, None, None, None)
    infos = found.fidelity[model.name]
    nearest = min(range(len(infos)), key=[info.forward_kl for info in infos].__getitem__)
    return (*row, infos[-1].agreement, infos[-1].forward_kl, found.teachers[nearest].name)


@torch.no_grad()
def _calibration(
    run: FinishedRun, model: RunModel, batches: Sequence[Mapping[str, Any]], bins: int
) -> CalibrationInfo:
    tally = CalibrationTally(bins)
    for batch in batches:
        tally.add(*run.rows(model.model, batch))
    return tally.info()


@torch.no_grad()
def _fidelity(
    run: FinishedRun, student: RunModel, teacher: RunModel, batches: Sequence[Mapping[str, Any]]
) -> FidelityInfo:
    assert run.teacher is not None
    width = shared_width(
        run.task.head,
        student.model.config,
        teacher.model.config,
        student_tokenizer=run.data.tokenizer,
        teacher_tokenizer=run.teacher.tokenizer,
    )
    tally = FidelityTally()
    for batch in batches:
        student_RV, _ = run.rows(student.model, batch)
        teacher_RV, _ = run.rows(teacher.model, batch)
        tally.add(student_RV[:, :width], teacher_RV[:, :width])
    return tally.info()


def _draw(run: FinishedRun, found: _Found) -> list[Any]:
    by_curriculum: dict[str, list[list[FidelityInfo]]] = {}
    for student in found.students:
        by_curriculum.setdefault(str(student.curriculum), []).append(found.fidelity[student.name])
    medians = {name: [_median(column) for column in zip(*rows, strict=True)] for name, rows in by_curriculum.items()}
    final, first_seed = found.teachers[-1].name, found.students[0].seed
    drawn = [f"{s.name}" for s in found.students if s.seed == first_seed]
    folder = folder_of_answers(run)
    return [
        plot_fidelity(medians, plot_steps(found.teachers), folder / "fidelity.png"),
        plot_calibration({name: found.calibration[name] for name in (final, *drawn)}, folder / "calibration.png"),
    ]


def _median(infos: Sequence[FidelityInfo]) -> FidelityInfo:
    """The median of each number over seeds."""
    agreement, forward, reverse = (median(values) for values in list(zip(*infos, strict=True))[1:])
    return FidelityInfo(infos[0].rows, agreement, forward, reverse)
