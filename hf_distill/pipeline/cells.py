"""The students of a recipe: every curriculum with every seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hf_distill.pipeline.student import student_trainer
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.tasks import TASKS, Task
from hf_distill.teachers import TeacherSource
from hf_distill.trainer import ProgressiveDistillTrainer


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


def one_of_each(cells: Sequence[Cell]) -> list[Cell]:
    """Return the first student of each curriculum."""
    firsts: dict[str, Cell] = {}
    for cell in cells:
        firsts.setdefault(cell.label, cell)
    return list(firsts.values())


def distilled_cells_of(recipe: Recipe) -> list[Cell]:
    """Return the students of a recipe that distils something.

    Raises:
        ValueError: It only fine-tunes a student that is there already.
    """
    cells = cells_of(recipe)
    if not cells:
        raise ValueError("this recipe has no curriculum: it distils nothing and only fine-tunes `student.model`")
    return cells


def task_of(recipe: Recipe) -> Task:
    """Build the recipe's task.

    Raises:
        ValueError: Unknown task or field.
    """
    return TASKS.build(recipe.task, path="task")


def build_trainer(
    cell: Cell,
    recipe: Recipe,
    task: Task,
    teacher: TeacherSource | None,
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
        workspace=workspace,
    )
