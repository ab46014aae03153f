"""A teacher for planning: of the right size and with the right revisions, without downloading a weight."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from hf_distill.models.compatibility import auto_class_of
from hf_distill.pipeline.stand_ins import promised_revisions
from hf_distill.pipeline.teacher import teacher_trainer
from hf_distill.pipeline.workspace import Workspace
from hf_distill.planning.model_size import ModelSize, model_size
from hf_distill.reading.signals import Head
from hf_distill.recipe.recipe import Recipe
from hf_distill.recipe.teacher_spec import ModelSpec
from hf_distill.recipe.teaching import kind_of, students_learn_from
from hf_distill.tasks import Task, TaskData
from hf_distill.teachers import LiveTeacher, TeacherSequence, TeacherSource
from hf_distill.teachers.listing import list_revisions
from hf_distill.teachers.quantization import build_quantization
from hf_distill.teachers.revisions import Revision, resolve_revisions


class StandIn(NamedTuple):
    """What is known of a recipe's teacher before it is trained or downloaded.

    Attributes:
        model: With random weights.
        revisions: First to final; empty where a training's arguments do not tell its checkpoints.
        disk_bytes: What they will take on disk beyond what is there.
    """

    model: PreTrainedModel
    revisions: list[Revision]
    disk_bytes: int


def stand_in_teacher(recipe: Recipe, task: Task, data: TaskData, workspace: Workspace, *, device: str) -> StandIn:
    """Return the recipe's teacher with random weights.

    Args:
        recipe: With a teacher.
        task: Its task.
        data: What the task prepared.
        workspace: Its folder.
        device: `meta` where only sizes matter; a teacher to be trained is built on the CPU all the same.

    Raises:
        ValueError: The source does not exist, or gives no configuration.
    """
    assert recipe.teacher is not None
    if recipe.teacher.train is not None:
        trainer = teacher_trainer(recipe, task, data, workspace)
        revisions = promised_revisions(trainer.args)
        model = trainer.model
        # A Trainer's checkpoint holds gradients' moments too, unless it saves the model only.
        copies = 1 if trainer.args.save_only_model else 3
        each = copies * sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        return StandIn(model, revisions, each * len(revisions))
    assert recipe.teacher.source is not None
    revisions = resolve_revisions(recipe.teacher.source, allow_pickled_weights=recipe.teacher.allow_pickled_weights)
    listed = list_revisions(revisions, allow_pickled_weights=recipe.teacher.allow_pickled_weights)
    model = _random_model(_config_of(revisions[-1], recipe), recipe, head=task.head, device=device)
    return StandIn(model, revisions, sum(one.size for one in listed if one.cached != "yes"))


def size_as_asked(model: PreTrainedModel, spec: ModelSpec) -> ModelSize:
    """Return the size of a teacher, its weights quantised where the recipe says so."""
    size, quantization = model_size(model), build_quantization(spec.quantization, path="teacher.quantization")
    if quantization is None:
        return size
    return dataclasses.replace(size, weight_bytes=int(quantization.weight_bytes(model)))


def source_as_asked(model: PreTrainedModel, spec: ModelSpec, folder: Path) -> TeacherSource:
    """Return a stand-in as a teacher that is run as the recipe says: quantised, lent to the device, compiled.

    Args:
        model: With random weights, on the CPU.
        spec: The recipe's teacher.
        folder: Gets the weights where they are quantised when they are read.
    """
    if spec.quantization is None:
        return LiveTeacher(model, offload=spec.offload, compiled=spec.compile, sharded=spec.sharded)
    if not folder.exists():
        model.save_pretrained(folder)
    return TeacherSequence(str(folder), quantization=spec.quantization, compiled=spec.compile)


def refuse_several_teachers(recipe: Recipe) -> None:
    """Refuse a recipe whose students hear something else than one teacher's own revisions.

    Raises:
        ValueError: It has an ensemble, assistants, a pruned mix or a self-teacher.
    """
    if recipe.teacher is not None and kind_of(recipe.teacher) != "teacher":
        raise ValueError(
            f"a plan knows what one teacher needs, and the students of this recipe learn from "
            f"{students_learn_from(recipe.teacher)}; `hf-distill run --check` builds all of it"
        )


def _config_of(revision: Revision, recipe: Recipe) -> PreTrainedConfig:
    assert recipe.teacher is not None
    where = {"revision": revision.commit, "subfolder": revision.subfolder or ""} if revision.revision else {}
    source = revision.source if revision.revision else revision.folder
    return AutoConfig.from_pretrained(source, trust_remote_code=recipe.teacher.trust_remote_code, **where)


def _random_model(config: PreTrainedConfig, recipe: Recipe, *, head: Head, device: str) -> PreTrainedModel:
    assert recipe.teacher is not None
    asked = recipe.teacher.dtype
    dtype = config.dtype if asked == "auto" else torch.empty(0, dtype=vars(torch)[asked]).dtype
    with torch.random.fork_rng(devices=[]), torch.device(device):
        model = auto_class_of(head, config).from_config(config, trust_remote_code=recipe.teacher.trust_remote_code)
    return model.to(dtype or torch.float32)
