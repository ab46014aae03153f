"""A student cut out of a teacher and put into a folder, outside of a run: the work of `hf-distill student make`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from hf_distill.pipeline.places import said_of
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.evidence import forwards_of
from hf_distill.student_making.making import MadeStudent, make_student
from hf_distill.student_making.origin import StudentOrigin
from hf_distill.student_making.saving import refuse_what_is_there, save_student, student_there
from hf_distill.student_making.teacher_model import FoundTeacher, find_teacher
from hf_distill.tasks import TASKS, Task, TaskData

Stage = Callable[[str, int], None]
"""Called with what is done now, and in how many parts."""


class Kept(NamedTuple):
    """A student in its folder.

    Attributes:
        origin: What it was cut out of.
        teacher: The teacher's folder.
        new: False where the folder held this very student already.
    """

    origin: StudentOrigin
    teacher: Path
    new: bool


def put_student(
    teacher: str,
    folder: Path,
    cut: StudentCut,
    *,
    recipe: Recipe | None = None,
    on_stage: Stage = lambda what, parts: None,
    on_batch: Callable[[], None] = lambda: None,
) -> Kept:
    """Cut a student out of a teacher and write it, unless the folder holds that very student.

    Args:
        teacher: A folder, `org/model` or `org/model@revision`; of several revisions the final one.
        folder: Where the student goes.
        cut: What stays.
        recipe: Whose task and training data are looked at, for `cka` and `sensitivity`; its task's class loads the
            teacher then.
        on_stage: Told what is done now.
        on_batch: Called whenever a batch has gone through the teacher.

    Raises:
        ValueError: The folder holds something else, the teacher cannot be had or cut, or there is no data to look at.
    """
    if cut.needs_data and recipe is None:
        raise ValueError(
            "cka and sensitivity look at what the teacher does with data; name a recipe with its task and data "
            "(--recipe), or choose by first, last, spaced or norm"
        )
    on_stage("Finding the teacher", 0)
    found = find_teacher(teacher)
    task = TASKS.build(recipe.task, path="task") if recipe is not None and cut.needs_data else None
    data, batches, looked_at = None, None, None
    if task is not None and recipe is not None:
        data = task.prepare(seed=recipe.seeds[0], cache_dir=Workspace(Path(recipe.output_dir)).cache)
        batches, looked_at = batches_to_look_at(recipe, cut, data), data_text(cut, data)
    there = student_there(folder, commit=found.revision.commit, cut=cut, data=looked_at)
    if there is not None:
        return Kept(there, found.folder, new=False)
    refuse_what_is_there(folder)
    on_stage("Choosing what stays", 0 if batches is None else forwards_of(cut, len(batches)))
    made = cut_out(found, task, cut, data=data, batches=batches, looked_at=looked_at, on_batch=on_batch)
    on_stage("Writing the student", 0)
    save_student(made, folder, beside=found.folder)
    return Kept(made.origin, found.folder, new=True)


def cut_out(
    found: FoundTeacher,
    task: Task | None,
    cut: StudentCut,
    *,
    data: TaskData | None = None,
    batches: DataLoader[Any] | None = None,
    looked_at: str | None = None,
    on_batch: Callable[[], None] | None = None,
) -> MadeStudent:
    """Cut a student out of a teacher on disk.

    Args:
        found: The teacher.
        task: Its `auto_class` loads the teacher; None loads it as it was saved.
        cut: What stays.
        data: The task's data, which the teacher has to be able to read.
        batches: Of it, to choose by.
        looked_at: That data, for the origin.
        on_batch: Called whenever a batch has gone through the teacher.

    Raises:
        ValueError: The teacher cannot be loaded or cut, or does not fit the data.
    """
    teacher = found.load(task.auto_class() if task is not None else None)
    if task is not None and data is not None:
        with said_of("model", str(found.folder)):
            task.check_model(teacher, data)
    seen: list[dict[str, Any]] = []
    if batches is not None:
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        device = accelerator or torch.device("cpu")
        teacher.to(device)
        seen = [_on(device, batch) for batch in batches]
    made = make_student(teacher, cut, batches=seen, on_batch=on_batch)
    return MadeStudent(made.model.to("cpu"), found.named_in(made.origin, data=looked_at))


def data_text(cut: StudentCut, data: TaskData) -> str:
    """Return in words which data layers or units are chosen by."""
    return f"{min(cut.examples, len(data.train))} training examples of {data.fingerprint}"  # type: ignore[arg-type]


def batches_to_look_at(recipe: Recipe, cut: StudentCut, data: TaskData) -> DataLoader[Any]:
    """Return the first training examples in batches of the recipe's size."""
    chosen: Any = Subset(data.train, range(min(cut.examples, len(data.train))))  # type: ignore[arg-type]
    size = int(recipe.training.get("per_device_train_batch_size", 8))
    return DataLoader(chosen, batch_size=size, collate_fn=data.collator)


def _on(device: torch.device, batch: dict[str, Any]) -> dict[str, Any]:
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
