"""The trainings of a recipe's students, to be gone through without training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from accelerate import PartialState
from transformers import set_seed

from hf_distill.cache.walk import TargetWalk
from hf_distill.pipeline.cells import Cell, cells_of
from hf_distill.pipeline.student_model import student_model
from hf_distill.pipeline.training_arguments import OF_A_LAUNCH, training_arguments
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.tasks import Task, TaskData
from hf_distill.teachers import TeacherSource


def taught_cells(recipe: Recipe) -> list[Cell]:
    """Return the students of a recipe that learn from a teacher."""
    return [cell for cell in cells_of(recipe) if cell.curriculum["name"] != "labels"]


def walks_of(
    recipe: Recipe,
    task: Task,
    teacher: TeacherSource,
    workspace: Workspace,
    cells: list[Cell],
    *,
    chosen: str | None,
    scratch: Path,
) -> Iterator[TargetWalk]:
    """Yield the walk of each student's training, made when it is its turn."""
    for cell in cells:
        yield walk_of(cell, recipe, task, teacher, workspace, chosen=chosen, scratch=scratch)


def walk_of(
    cell: Cell,
    recipe: Recipe,
    task: Task,
    teacher: TeacherSource,
    workspace: Workspace,
    *,
    chosen: str | None,
    scratch: Path,
) -> TargetWalk:
    """Return the walk of one student's training.

    Args:
        cell: The student.
        recipe: Where it stands.
        task: Its task.
        teacher: Who teaches it.
        workspace: Of the recipe.
        chosen: The revision that `auto` stands for.
        scratch: A folder for what a Trainer wants to write, which a walk leaves empty.
    """
    data = task.prepare(seed=cell.seed, cache_dir=workspace.cache)
    training = {key: value for key, value in cell.training.items() if key not in OF_A_LAUNCH}
    arguments = training_arguments(
        training, task=task, output_dir=scratch, curriculum=cell.curriculum, seed=cell.seed, path="training"
    )
    set_seed(cell.seed)
    walk = TargetWalk(
        model=student_model(recipe, task, data, workspace),
        teacher=teacher,
        args=arguments,
        fingerprint=fingerprint_of(cell, data, chosen=chosen),
        **data.for_trainer(),
    )
    if walk.distillation.curriculum.needs_scores:
        walk.distillation.chosen_revision = chosen
    return walk


def fingerprint_of(cell: Cell, data: TaskData, *, chosen: str | None) -> str:
    """Return a hash of all that decides which examples a student meets with which revision."""
    known = {
        "data": data.fingerprint,
        "curriculum": cell.curriculum,
        "training": {key: value for key, value in cell.training.items() if key not in OF_A_LAUNCH},
        "seed": cell.seed,
        "chosen": chosen,
        "processes": PartialState().num_processes,
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def max_length_of(task: Task) -> int | None:
    """Return how many tokens an example of a task has at most, where it says so."""
    length = vars(task).get("max_length")
    return length if isinstance(length, int) else None
