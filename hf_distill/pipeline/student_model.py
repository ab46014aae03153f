"""A student's model before training: built, loaded, or cut out of its teacher and kept in `made_student`."""

from __future__ import annotations

import shutil
from typing import Any

import torch
from accelerate import PartialState
from tqdm.auto import tqdm
from transformers import PreTrainedConfig, PreTrainedModel

from hf_distill.pipeline.adapter import refuse_new_weights
from hf_distill.pipeline.making import batches_to_look_at, cut_out, data_text
from hf_distill.pipeline.places import at, said_of
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.recipe.student_checks import FROM_TEACHER, adapter_export
from hf_distill.strict_dataclass import to_mapping
from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.evidence import forwards_of
from hf_distill.student_making.origin import ORIGIN_FILE, StudentOrigin
from hf_distill.student_making.saving import save_student, student_there
from hf_distill.student_making.student_config import student_config
from hf_distill.student_making.teacher_model import final_config, find_teacher
from hf_distill.tasks import Task, TaskData
from hf_distill.teachers.quantization import build_quantization

PATH = f"student.model.{FROM_TEACHER}"


def student_model(
    recipe: Recipe, task: Task, data: TaskData, workspace: Workspace, *, quantized: bool = True
) -> PreTrainedModel:
    """Return a student as its training begins, without the adapter that it may get.

    A student that is to be cut out of its teacher is loaded from where it was made; before that, random weights of the
    same sizes stand in.

    Args:
        recipe: What is to be run.
        task: Its task.
        data: What the task prepared.
        workspace: The recipe's folder.
        quantized: False gives the full weights of a student whose base is quantised.

    Raises:
        ValueError: The model cannot be had, or does not fit the task.
    """
    student, cut = recipe.student, recipe.student.cut
    loading: dict[str, Any] = {"on_new": refuse_new_weights} if adapter_export(student) == "adapter" else {}
    quantization = build_quantization(student.quantization if quantized else None, path="student.quantization")
    if quantization is not None:
        loading["loading"] = quantization.load_arguments(PartialState().device)
    if cut is None:
        with said_of("model", "student.model"):
            return task.build_model(student.model, data, **loading)
    if _is_made(workspace, cut):
        return task.build_model({"pretrained": str(workspace.made_student)}, data, **loading)
    with at(PATH):
        config = student_config(_teacher_config(recipe, task, data), cut)
        model = task.auto_class().from_config(config, dtype=torch.float32)
        task.check_model(model, data)
    return model


def make_student_of_teacher(recipe: Recipe, task: Task, workspace: Workspace) -> StudentOrigin | None:
    """Cut a recipe's student out of its teacher's final revision, once; None for a student that is not cut out of it.

    Args:
        recipe: What is to be run; its teacher is there.
        task: Its task.
        workspace: Its folder, which keeps the student as it was made.

    Raises:
        ValueError: The teacher's weights are not there or cannot be cut, or students here began as another student.
    """
    cut = recipe.student.cut
    if cut is None or recipe.teacher is None:
        return None
    with at(PATH):
        found = find_teacher(_source(recipe, workspace), allow_pickled_weights=recipe.teacher.allow_pickled_weights)
        data = task.prepare(seed=recipe.seeds[0], cache_dir=workspace.cache) if cut.needs_data else None
        looked_at = None if data is None else data_text(cut, data)
        there = student_there(workspace.made_student, commit=found.revision.commit, cut=cut, data=looked_at)
        if there is not None:
            return there
        if workspace.made_student.exists():
            _make_room(workspace)
        batches = None if data is None else batches_to_look_at(recipe, cut, data)
        total, what = forwards_of(cut, len(batches or ())), "Choosing what of its teacher the student keeps"
        with tqdm(total=total, desc=what, unit="batch", disable=not total) as bar:
            made = cut_out(found, task, cut, batches=batches, looked_at=looked_at, on_batch=bar.update)
        save_student(made, workspace.made_student, beside=found.folder)
    return made.origin


def _is_made(workspace: Workspace, cut: StudentCut) -> bool:
    if not (workspace.made_student / ORIGIN_FILE).is_file():
        return False
    return StudentOrigin.load(workspace.made_student).cut == to_mapping(cut)


def _make_room(workspace: Workspace) -> None:
    """Take away a student of an earlier recipe or teacher that no student here began as.

    Raises:
        ValueError: One did.
    """
    if workspace.holds_students():
        raise ValueError(
            f"students in {workspace.root} began as the one in {workspace.made_student}, which was cut out of another "
            "teacher or in another way; choose another folder with --set output_dir=..., or move the old one away"
        )
    shutil.rmtree(workspace.made_student)


def _source(recipe: Recipe, workspace: Workspace) -> Any:
    assert recipe.teacher is not None
    return recipe.teacher.source if recipe.teacher.source is not None else workspace.teacher


def _teacher_config(recipe: Recipe, task: Task, data: TaskData) -> PreTrainedConfig:
    assert recipe.teacher is not None
    if recipe.teacher.source is not None:
        return final_config(recipe.teacher.source, allow_pickled_weights=recipe.teacher.allow_pickled_weights)
    assert recipe.teacher.train is not None
    with torch.random.fork_rng(devices=[]):
        return task.build_model(recipe.teacher.train.model, data).config
