"""The whole job of a recipe; what is finished is kept, what is not is continued."""

from __future__ import annotations

import logging
import platform
from datetime import datetime, timezone
from pathlib import Path

import torch
from accelerate import PartialState

from hf_distill.analysis.latency import first_example, latency_info
from hf_distill.hub.card import save_student_card
from hf_distill.hub.finetuned_card import save_finetuned_cards
from hf_distill.pipeline.adapter import adapter_record, sizes_of
from hf_distill.pipeline.after_run import ask_after_run
from hf_distill.pipeline.cached import check_covered, faculty_of
from hf_distill.pipeline.cells import Cell, build_trainer, cells_of, task_of
from hf_distill.pipeline.checks import check_before_training, check_keys, check_plans
from hf_distill.pipeline.downstream import fine_tune
from hf_distill.pipeline.observer import Observer
from hf_distill.pipeline.student import finished_run, train_student
from hf_distill.pipeline.student_model import make_student_of_teacher
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.report.page import write_report
from hf_distill.run_record import RunRecord, StudentRun
from hf_distill.tasks import Task
from hf_distill.teachers import TeacherSource
from hf_distill.teachers.sharding import is_in_pieces
from hf_distill.versions import package_versions

logger = logging.getLogger(__name__)


def run_recipe(recipe: Recipe, *, command: list[str] | None = None, resume: bool = True) -> RunRecord:
    """Run a recipe to the end: teacher, students, fine-tunings, record, report, cards.

    Called again on the same `output_dir` it continues: finished students are kept, unfinished ones go on from their
    newest whole checkpoint.

    Args:
        recipe: What to do.
        command: The command line, for the record.
        resume: False refuses to continue a run that is there already.

    Returns:
        The record, also written to `output_dir/run_record.json`.

    Raises:
        ValueError: The recipe cannot be run, said before any training where that is possible.
    """
    # Without `cpu`, processes on a machine without an accelerator do not know of each other before the first Trainer.
    state = PartialState(cpu=bool(recipe.training.get("use_cpu")) or not torch.accelerator.is_available())
    workspace = Workspace(Path(recipe.output_dir))
    task = task_of(recipe)
    cells = cells_of(recipe)
    check_keys(recipe)
    # The others look when the recipe is there; a half-written file would be a foreign one.
    with state.main_process_first():
        continued = workspace.claim(recipe, write=state.is_main_process, renew=resume)
    if continued and not resume and workspace.holds_training():
        raise ValueError(f"{workspace.root} holds this recipe's run already; resume it or choose another output_dir")
    check_before_training(recipe, task, workspace, cells)
    record = new_record(recipe, task, command or [])
    if cells:
        distil(recipe, task, workspace, cells, record)
    for block in fine_tune(recipe, task, workspace):
        record.downstream = [*(one for one in record.downstream if one.name != block.name), block]
        if state.is_main_process:
            record.save(workspace.root)
            save_finetuned_cards(record, workspace.root, block.name)
    record.finished = now()
    if state.is_main_process:
        finish(record, recipe, workspace)
    state.wait_for_everyone()
    return record


def distil(recipe: Recipe, task: Task, workspace: Workspace, cells: list[Cell], record: RunRecord) -> None:
    """Train or find the teacher, then train every student; the record grows with each.

    Raises:
        ValueError: Teacher, student, data or curriculum do not fit together.
    """
    state = PartialState()
    trainer = build_trainer(cells[0], recipe, task, None, workspace, labels_only=True)
    data = task.prepare(seed=cells[0].seed, cache_dir=workspace.cache)
    record.task["description"] = data.description
    record.student.update(sizes_of(trainer.model))
    if not is_in_pieces(trainer.model):
        # ZeRO-3 splits a student when it is made, and puts its layers together in training only.
        record.student["latency"] = latency_info(trainer.model, first_example(trainer.get_eval_dataloader()))
    teacher = None
    if recipe.teacher is not None:
        faculty = faculty_of(recipe, task, workspace, Observer(trainer, data.fingerprint))
        teacher, found = faculty.source, faculty.recorded()
        chosen, problem = found.get("chosen"), found.get("transition_problem")
        check_plans(recipe, task, teacher, workspace, cells, chosen=chosen, problem=problem)
        check_covered(recipe, task, teacher, workspace, chosen=chosen)
        # A teacher made of the student has its pin only once there is one.
        record.teacher.update(found, revisions=[one for one in teacher.manifest() if one["commit"]])
    with state.main_process_first():
        made = make_student_of_teacher(recipe, task, workspace)
    if made is not None:
        record.student.update(made=made.to_dict(), description=made.describe())
    for cell in cells:
        record.runs.append(run_cell(cell, recipe, task, teacher, workspace, record))
        if state.is_main_process:
            record.save(workspace.root)


def run_cell(
    cell: Cell, recipe: Recipe, task: Task, teacher: TeacherSource | None, workspace: Workspace, record: RunRecord
) -> StudentRun:
    """Train one student, or return its record where it is finished."""
    kept = finished_run(workspace.student(cell.label, cell.seed))
    if kept is not None:
        return kept
    trainer = build_trainer(cell, recipe, task, teacher, workspace)
    if trainer.distillation.curriculum.needs_scores:
        trainer.distillation.chosen_revision = record.teacher["chosen"]
    return train_student(trainer, recipe, task, label=cell.label, workspace=workspace)


def new_record(recipe: Recipe, task: Task, command: list[str]) -> RunRecord:
    """Return a record with everything known before training."""
    state = PartialState()
    return RunRecord(
        name=recipe.name,
        recipe=recipe.to_dict(),
        command=command,
        versions={"python": platform.python_version(), **package_versions()},
        environment={
            "platform": platform.platform(),
            "device": str(state.device),
            "processes": state.num_processes,
            "torch_threads": torch.get_num_threads(),
        },
        started=now(),
        task={
            "name": recipe.task["name"],
            "head": task.head,
            "metric": task.metric,
            "greater_is_better": task.greater_is_better,
            "level": recipe.level,
        },
        student={"origin": dict(recipe.student.model), **adapter_record(recipe.student)},
    )


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def finish(record: RunRecord, recipe: Recipe, workspace: Workspace) -> None:
    """Write the record, a model card beside every student, what the report is to show beside it, and the report."""
    record.save(workspace.root)
    for run in record.runs:
        save_student_card(record, workspace.root / run.folder, curriculum=run.curriculum, seed=run.seed)
    if recipe.report.enabled:
        ask_after_run(recipe)
        write_report(record, workspace.root)
