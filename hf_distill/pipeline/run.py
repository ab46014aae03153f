"""The whole job of a recipe; what is finished is kept, what is not is continued."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from hf_distill.analysis.latency import first_example, latency_info
from hf_distill.analysis.revision_scores import transition_of
from hf_distill.hub.card import save_student_card
from hf_distill.pipeline.cells import Cell, build_trainer, cells_of, task_of
from hf_distill.pipeline.checks import check_before_training, check_keys, check_plans
from hf_distill.pipeline.student import finished_run, train_student
from hf_distill.pipeline.teacher import open_teacher, scores_of, train_teacher
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe import Recipe
from hf_distill.report.page import write_report
from hf_distill.run_record import RunRecord, StudentRun
from hf_distill.tasks import Task
from hf_distill.teachers import TeacherSequence
from hf_distill.teachers.selection import near_transition
from hf_distill.trainer import ProgressiveDistillTrainer
from hf_distill.versions import package_versions

logger = logging.getLogger(__name__)


def run_recipe(recipe: Recipe, *, command: list[str] | None = None, resume: bool = True) -> RunRecord:
    """Run a recipe to the end: teacher, students, record, report, cards.

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
        continued = workspace.claim(recipe, write=state.is_main_process)
    if continued and not resume and workspace.holds_training():
        raise ValueError(f"{workspace.root} holds this recipe's run already; resume it or choose another output_dir")
    check_before_training(recipe, task, workspace, cells)
    record = new_record(recipe, task, command or [])
    teacher = None
    if recipe.teacher is not None:
        if recipe.teacher.train is not None:
            record.teacher.update(train_teacher(recipe, task, workspace))
        teacher = open_teacher(recipe, workspace)
        record.teacher.update(source=source_name(recipe), revisions=teacher.manifest())
    trainer = build_trainer(cells[0], recipe, task, None, workspace, labels_only=True)
    data = task.prepare(seed=cells[0].seed, cache_dir=workspace.cache)
    record.task["description"] = data.description
    record.student["parameters"] = sum(parameter.numel() for parameter in trainer.model.parameters())
    record.student["latency"] = latency_info(trainer.model, first_example(trainer.get_eval_dataloader()))
    if teacher is not None:
        workspace.pin_teacher(teacher.manifest(), write=state.is_main_process)
        inspect_teacher(record, teacher, trainer, workspace, data=data.fingerprint)
        chosen, problem = record.teacher.get("chosen"), record.teacher.get("transition_problem")
        check_plans(recipe, task, teacher, workspace, cells, chosen=chosen, problem=problem)
    for cell in cells:
        record.runs.append(run_cell(cell, recipe, task, teacher, workspace, record))
        if state.is_main_process:
            record.save(workspace.root)
    record.finished = now()
    if state.is_main_process:
        finish(record, recipe, workspace)
    state.wait_for_everyone()
    return record


def inspect_teacher(
    record: RunRecord,
    teacher: TeacherSequence,
    trainer: ProgressiveDistillTrainer,
    workspace: Workspace,
    *,
    data: str,
) -> None:
    """Score the teacher's revisions on held-out data (`data`: its fingerprint) and note scores and sharp drop."""
    teacher.attach(head=trainer.distillation.head, accelerator=trainer.accelerator)
    teacher.enter(len(teacher.revisions) - 1)
    record.teacher["parameters"] = sum(parameter.numel() for parameter in teacher.model.parameters())
    record.teacher["latency"] = latency_info(teacher.model, first_example(trainer.get_eval_dataloader()))
    record.teacher["scores"] = scores_of(teacher, trainer, workspace.root, data=data)
    record.teacher.setdefault("final_metrics", _metrics(record.teacher["scores"][-1]))
    if len(teacher.revisions) > 1:
        try:
            info = transition_of(record.teacher["scores"])
        except ValueError as error:
            if teacher.near_transition is not None:
                raise ValueError(f"teacher.source.near_transition: {error}") from error
            record.teacher["transition_problem"] = str(error)
            return
        record.teacher.update(chosen=teacher.revisions[info.chosen].name, reason=info.reason)
        if teacher.near_transition is not None:
            teacher.narrow(near_transition(teacher.revisions, info.chosen, count=teacher.near_transition))
            record.teacher["revisions"] = teacher.manifest()
    elif teacher.near_transition is not None:
        teacher.narrow(teacher.revisions)


def _metrics(score: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in score.items() if key not in ("name", "step")}


def run_cell(
    cell: Cell, recipe: Recipe, task: Task, teacher: TeacherSequence | None, workspace: Workspace, record: RunRecord
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
        student={"origin": dict(recipe.student.model)},
    )


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def source_name(recipe: Recipe) -> str:
    """Return where the teacher comes from, for people."""
    assert recipe.teacher is not None
    source = recipe.teacher.source
    if source is None:
        return "trained by this recipe"
    entries = source["revisions"] if isinstance(source, Mapping) else source
    return entries if isinstance(entries, str) else ", ".join(entries)


def finish(record: RunRecord, recipe: Recipe, workspace: Workspace) -> None:
    """Write the record, a model card beside every student, and the report."""
    record.save(workspace.root)
    for run in record.runs:
        save_student_card(record, workspace.root / run.folder, curriculum=run.curriculum, seed=run.seed)
    if recipe.report.enabled:
        write_report(record, workspace.root)
