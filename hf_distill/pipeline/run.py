"""The whole job of a recipe; what is finished is kept, what is not is continued."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from hf_distill.analysis.revision_scores import transition_of
from hf_distill.curricula import CURRICULA
from hf_distill.hub.card import save_student_card
from hf_distill.pipeline.student import finished_run, student_trainer, train_student
from hf_distill.pipeline.teacher import open_teacher, scores_of, teacher_trainer, train_teacher
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe import Recipe
from hf_distill.report.page import write_report
from hf_distill.run_record import RunRecord, StudentRun
from hf_distill.tasks import TASKS, Task
from hf_distill.teachers import TeacherSequence
from hf_distill.trainer import ProgressiveDistillTrainer

logger = logging.getLogger(__name__)

PACKAGES = ("hf-distill", "torch", "transformers", "accelerate", "datasets", "peft", "safetensors", "huggingface_hub")


@dataclass(frozen=True)
class Cell:
    """One student to train.

    Attributes:
        label: Of the curriculum in the comparison.
        curriculum: Its specification.
        training: The recipe's training block with this curriculum's overrides.
        seed: Of weights, data and dropout.
    """

    label: str
    curriculum: dict[str, Any]
    training: dict[str, Any]
    seed: int


def cells_of(recipe: Recipe) -> list[Cell]:
    """Return the students of a recipe: every curriculum with every seed, seed by seed within a curriculum."""
    cells: list[Cell] = []
    for label, spec in recipe.curricula().items():
        curriculum = dict(spec)
        training = {**recipe.training, **curriculum.pop("training", {})}
        cells.extend(Cell(label, curriculum, training, seed) for seed in recipe.seeds)
    return cells


def task_of(recipe: Recipe) -> Task:
    """Build the recipe's task.

    Raises:
        ValueError: Unknown task or field.
    """
    return TASKS.build(recipe.task, path="task")


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
    state = PartialState()
    workspace = Workspace(Path(recipe.output_dir))
    task = task_of(recipe)
    cells = cells_of(recipe)
    continued = workspace.claim(recipe, write=state.is_main_process)
    state.wait_for_everyone()
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
    if teacher is not None:
        inspect_teacher(record, teacher, trainer, workspace)
    for cell in cells:
        record.runs.append(run_cell(cell, recipe, task, teacher, workspace, record))
        if state.is_main_process:
            record.save(workspace.root)
    record.finished = now()
    if state.is_main_process:
        finish(record, recipe, workspace)
    state.wait_for_everyone()
    return record


def check_before_training(recipe: Recipe, task: Task, workspace: Workspace, cells: list[Cell]) -> None:
    """Build everything that can be built without training, so that mistakes surface now.

    Raises:
        ValueError: A curriculum, model, data set, teacher or training argument that cannot work.
    """
    teacher = None
    if recipe.teacher is not None and recipe.teacher.source is not None:
        teacher = open_teacher(recipe, workspace)
    for cell in cells:
        CURRICULA.build(cell.curriculum, path=f"compare.{cell.label}" if recipe.compare else "curriculum")
    seen: set[str] = set()
    for cell in cells:
        if cell.label in seen or (teacher is None and cell.curriculum["name"] != "labels"):
            continue
        seen.add(cell.label)
        build_trainer(cell, recipe, task, teacher, workspace)
    if recipe.teacher is not None and recipe.teacher.train is not None:
        data = task.prepare(seed=recipe.teacher.train.seed, cache_dir=workspace.cache)
        teacher_trainer(recipe, task, data, workspace)


def build_trainer(
    cell: Cell,
    recipe: Recipe,
    task: Task,
    teacher: TeacherSequence | None,
    workspace: Workspace,
    *,
    labels_only: bool = False,
) -> ProgressiveDistillTrainer:
    """Build the trainer of one cell; `labels_only` leaves its curriculum aside, to look at data and student."""
    return student_trainer(
        recipe,
        task,
        curriculum={"name": "labels"} if labels_only else cell.curriculum,
        training=cell.training,
        seed=cell.seed,
        teacher=teacher,
        folder=workspace.student(cell.label, cell.seed),
        cache_dir=workspace.cache,
    )


def inspect_teacher(
    record: RunRecord, teacher: TeacherSequence, trainer: ProgressiveDistillTrainer, workspace: Workspace
) -> None:
    """Score the teacher's revisions on held-out data, find its sharp drop and note both in the record."""
    teacher.attach(head=trainer.distillation.head, accelerator=trainer.accelerator)
    teacher.enter(len(teacher.revisions) - 1)
    record.teacher["parameters"] = sum(parameter.numel() for parameter in teacher.model.parameters())
    record.teacher["scores"] = scores_of(teacher, trainer, workspace.root)
    record.teacher.setdefault("final_metrics", _metrics(record.teacher["scores"][-1]))
    if len(teacher.revisions) > 1:
        try:
            info = transition_of(record.teacher["scores"])
        except ValueError as error:
            record.teacher["transition_problem"] = str(error)
            return
        record.teacher.update(chosen=teacher.revisions[info.chosen].name, reason=info.reason)


def _metrics(score: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in score.items() if key not in ("name", "step")}


def run_cell(
    cell: Cell, recipe: Recipe, task: Task, teacher: TeacherSequence | None, workspace: Workspace, record: RunRecord
) -> StudentRun:
    """Train one student, or return its record where it is finished.

    Raises:
        ValueError: The curriculum wants the revision in the sharp drop, and there is none.
    """
    kept = finished_run(workspace.student(cell.label, cell.seed))
    if kept is not None:
        return kept
    trainer = build_trainer(cell, recipe, task, teacher, workspace)
    if trainer.distillation.curriculum.needs_scores:
        if record.teacher.get("chosen") is None:
            problem = record.teacher.get("transition_problem", "the teacher has one revision only")
            raise ValueError(f"{cell.label}: no revision can be chosen by `auto`: {problem}")
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


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that decide numbers."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def now() -> str:
    """Return the time, UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def source_name(recipe: Recipe) -> str:
    """Return where the teacher comes from, for people."""
    assert recipe.teacher is not None
    source = recipe.teacher.source
    if source is None:
        return "trained by this recipe"
    return source if isinstance(source, str) else ", ".join(source)


def finish(record: RunRecord, recipe: Recipe, workspace: Workspace) -> None:
    """Write the record, a model card beside every student, and the report."""
    record.save(workspace.root)
    for run in record.runs:
        save_student_card(record, workspace.root / run.folder, curriculum=run.curriculum, seed=run.seed)
    if recipe.report.enabled:
        write_report(record, workspace.root)
