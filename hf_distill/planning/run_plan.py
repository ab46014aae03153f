"""What a recipe will need, put together before any training: the answer of `hf-distill plan`."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from hf_distill.cache.cacheable import UNCACHEABLE
from hf_distill.kernels.tile_sizes import BUDGET_BYTES, BUDGET_BYTES_ELSEWHERE
from hf_distill.pipeline.cells import Cell, build_trainer, distilled_cells_of, task_of
from hf_distill.pipeline.checks import check_keys
from hf_distill.pipeline.places import said_of
from hf_distill.pipeline.plan_check import planned_steps
from hf_distill.pipeline.student import student_trainer
from hf_distill.pipeline.workspace import Workspace
from hf_distill.planning.caching import CacheSize, cache_sizes
from hf_distill.planning.cell_plan import CellPlan, cell_plan
from hf_distill.planning.memory import (
    BatchShape,
    MemoryLine,
    dense_head_bytes,
    step_memory,
    teacher_call,
    tiled_head_bytes,
)
from hf_distill.planning.model_size import ModelSize, model_size
from hf_distill.planning.model_states import StepSettings, step_settings
from hf_distill.planning.probe import PROBED, Probe, batch_shape, probe_steps
from hf_distill.planning.stand_in import (
    StandIn,
    refuse_several_teachers,
    size_as_asked,
    source_as_asked,
    stand_in_teacher,
)
from hf_distill.reading.signals import TOKEN_HEADS
from hf_distill.recipe.recipe import Recipe
from hf_distill.tasks import Task
from hf_distill.teachers.sharding import SHARDING, splits_weights
from hf_distill.trainer import ProgressiveDistillTrainer
from hf_distill.training.teacher_window import AS_WIDE_AS_THE_TEXT

STEP_FIELDS = ("objectives", "temperature", "label_mix", "intra", "views")
"""Fields of a curriculum that decide what a step costs; without a teacher, `intra` alone."""

ADAM_CHECKPOINT = 3
"""Weights and two moments: what a checkpoint holds, in sizes of the model."""


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a recipe will need on one device like this machine's.

    Attributes:
        student: Its size.
        teacher: Its size, None without one.
        revisions: Number of the teacher's revisions; 0 where that is not known.
        shape: Of a micro-batch.
        causal: Positions look back only.
        tiled: Losses are computed in tiles of a vocabulary.
        settings: What the training arguments say about a step.
        joins: Whether the teacher can be asked about several micro-batches at once: no curriculum reads its layers,
            and its head does not become wider with the longest of them.
        memory: Of a step, largest class first.
        device: Kind of device.
        device_bytes: Memory that it has.
        cells: One a curriculum.
        caches: Size of cached targets for all cells together, by codec; none where they cannot be cached.
        readings: How often a cached target would be read; below 2 a cache only moves the work.
        revision_bytes: What the teacher's revisions will take on disk beyond what is there.
        checkpoint_bytes: What the students' checkpoints will take.
        free_bytes: On the disk of output_dir.
    """

    student: ModelSize
    teacher: ModelSize | None
    revisions: int
    shape: BatchShape
    causal: bool
    tiled: bool
    settings: StepSettings
    joins: bool
    memory: list[MemoryLine]
    device: str
    device_bytes: int
    cells: list[CellPlan]
    caches: list[CacheSize]
    readings: float
    revision_bytes: int
    checkpoint_bytes: int
    free_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        return asdict(self)


def plan_recipe(recipe: Recipe, *, probe: bool = True) -> RunPlan:
    """Look at models, data and stages of a recipe, take a few steps, and add up what the whole run needs.

    Nothing is written but to a temporary folder, and no teacher weights are downloaded: random ones of the same size
    stand in.

    Args:
        recipe: What is to be run.
        probe: Take the few steps; without them no time is told.

    Raises:
        ValueError: The recipe cannot be run at all.
    """
    check_keys(recipe)
    Workspace(Path(recipe.output_dir)).check_place()
    refuse_several_teachers(recipe)
    task, cells = task_of(recipe), distilled_cells_of(recipe)
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(Path(scratch))
        trainer = build_trainer(cells[0], recipe, task, None, workspace, labels_only=True)
        stand_in = None
        if recipe.teacher is not None:
            data = task.prepare(seed=cells[0].seed, cache_dir=workspace.cache)
            stand_in = stand_in_teacher(recipe, task, data, workspace, device="cpu" if probe else "meta")
        student = model_size(trainer.model)
        teacher = None
        if stand_in is not None and recipe.teacher is not None:
            teacher = size_as_asked(stand_in.model, recipe.teacher)
        shape = batch_shape(trainer)
        prober = _Prober(recipe, task, stand_in, workspace)
        plans = []
        for _, group in groupby(cells, key=lambda cell: cell.label):
            some = list(group)
            own = build_trainer(some[0], recipe, task, None, workspace, labels_only=True)
            with said_of("curriculum", recipe.curriculum_path(some[0].label)):
                plans.append(
                    cell_plan(
                        some,
                        own,
                        steps=planned_steps(own),
                        student=student,
                        teacher=teacher,
                        stand_in=stand_in,
                        shape=shape,
                        probe=prober(some[0]) if probe else None,
                    )
                )
        examples = len(trainer.get_train_dataloader()) * shape.examples
        return _together(recipe, trainer, plans, student, teacher, stand_in, shape=shape, examples=examples)


def _together(
    recipe: Recipe,
    trainer: ProgressiveDistillTrainer,
    plans: list[CellPlan],
    student: ModelSize,
    teacher: ModelSize | None,
    stand_in: StandIn | None,
    *,
    shape: BatchShape,
    examples: int,
) -> RunPlan:
    distinct = distinct_examples(plans, examples=examples)
    visited = sum(plan.students * sum(plan.examples_read.values()) for plan in plans)
    rows = distinct * shape.rows // shape.examples
    students = sum(plan.students for plan in plans)
    cacheable = trainer.distillation.head not in UNCACHEABLE
    settings, tiled = step_settings(trainer.args), trainer.distillation.head in TOKEN_HEADS
    if tiled:
        budget = BUDGET_BYTES.get(trainer.args.device.type, BUDGET_BYTES_ELSEWHERE)
        head = tiled_head_bytes(student, teacher, shape, budget=budget)
    else:
        head = dense_head_bytes(student, teacher, shape)
    lent = recipe.teacher is not None and recipe.teacher.offload and trainer.args.device.type != "cpu"
    split = recipe.teacher is not None and recipe.teacher.sharded and splits_weights(trainer.accelerator)
    joins = not any(plan.reads_layers for plan in plans) and trainer.distillation.head not in AS_WIDE_AS_THE_TEXT
    joins = joins and trainer.accelerator.distributed_type not in SHARDING
    ranks = trainer.accelerator.num_processes if split else 1
    call = teacher_call(settings, shape, lent=lent, ranks=ranks, first=tiled, joins=joins)
    return RunPlan(
        student=student,
        teacher=teacher,
        revisions=len(stand_in.revisions) if stand_in is not None else 0,
        shape=shape,
        causal=trainer.distillation.head == "causal_lm",
        tiled=tiled,
        settings=settings,
        joins=joins,
        memory=step_memory(student, teacher, settings, shape, head=head, call=call),
        device=trainer.args.device.type,
        device_bytes=device_memory(trainer.args.device),
        cells=plans,
        caches=cache_sizes(teacher, rows) if teacher is not None and rows and cacheable else [],
        readings=visited / distinct if distinct else 0.0,
        revision_bytes=stand_in.disk_bytes if stand_in is not None else 0,
        checkpoint_bytes=students * ADAM_CHECKPOINT * student.weight_bytes,
        free_bytes=shutil.disk_usage(_existing(Path(recipe.output_dir))).free,
    )


class _Prober:
    """Times steps of a curriculum; its stages are stood for by the final teacher's logits.

    Curricula that differ in their stages only are timed once.
    """

    def __init__(self, recipe: Recipe, task: Task, stand_in: StandIn | None, workspace: Workspace) -> None:
        self.recipe, self.task, self.stand_in, self.workspace = recipe, task, stand_in, workspace
        self._known: dict[str, Probe] = {}

    def __call__(self, cell: Cell) -> Probe:
        labels = cell.curriculum["name"] == "labels" or self.stand_in is None
        curriculum = one_stage(cell.curriculum, labels=labels)
        key = json.dumps([curriculum, cell.training], sort_keys=True)
        if key not in self._known:
            teacher, spec = None, self.recipe.teacher
            if self.stand_in is not None and spec is not None and not labels:
                teacher = source_as_asked(self.stand_in.model, spec, self.workspace.root / "stand-in")
            trainer = student_trainer(
                self.recipe,
                self.task,
                curriculum=curriculum,
                training={**cell.training, **PROBED},
                seed=cell.seed,
                teacher=teacher,
                folder=self.workspace.root / "probe",
                workspace=self.workspace,
            )
            self._known[key] = probe_steps(trainer)
        return self._known[key]


def one_stage(curriculum: Mapping[str, Any], *, labels: bool) -> dict[str, Any]:
    """Return a curriculum of one stage whose steps cost what those of another curriculum do.

    Args:
        curriculum: The other one.
        labels: No teacher runs.
    """
    fields = ("intra",) if labels else STEP_FIELDS
    kept = {key: curriculum[key] for key in fields if key in curriculum}
    return {"name": "labels" if labels else "one_shot", **kept}


def distinct_examples(plans: list[CellPlan], *, examples: int) -> int:
    """Return how many targets a cache for all curricula holds: those of a revision once for each seed.

    Args:
        plans: The curricula.
        examples: In the training data.
    """
    most: Counter[int] = Counter()
    for plan in plans:
        for revision, read in plan.examples_read.items():
            most[revision] = max(most[revision], plan.students * min(read, examples))
    return sum(most.values())


def device_memory(device: torch.device) -> int:
    """Return the bytes of memory that a device, or this machine, has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _existing(folder: Path) -> Path:
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
