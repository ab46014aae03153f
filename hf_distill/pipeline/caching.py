"""`hf-distill cache`: what all students of a recipe will ask their teacher, written once."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState

from hf_distill.cache.cacheable import check_head_cacheable, check_plan_cacheable, check_repeatable
from hf_distill.cache.codecs import CODECS, Codec
from hf_distill.cache.format import MANIFEST
from hf_distill.cache.targets import About, Caching, cache_targets, taught_by
from hf_distill.pipeline.cells import Cell, build_trainer, cells_of, one_of_each, task_of
from hf_distill.pipeline.checks import check_before_training, check_keys, check_plans
from hf_distill.pipeline.faculty import Assembly
from hf_distill.pipeline.observer import Observer
from hf_distill.pipeline.places import at
from hf_distill.pipeline.stand_ins import StandIns
from hf_distill.pipeline.walks import max_length_of, taught_cells, walk_of, walks_of
from hf_distill.pipeline.workspace import Workspace
from hf_distill.reading.signals import TOKEN_HEADS
from hf_distill.recipe.recipe import Recipe
from hf_distill.tasks import Task, TaskData


def cache_recipe(
    recipe: Recipe, *, codec: Mapping[str, Any], folder: str | Path | None = None, **writing: Any
) -> Caching:
    """Write what all students of a recipe will ask their teacher; a teacher that it trains is trained first.

    Called again it goes on where it was, and a finished cache stays as it is. Under `accelerate launch` each process
    brings its part.

    Args:
        recipe: Its students are not trained.
        codec: `name` and fields of the codec.
        folder: The cache; by default `targets` in the recipe's output_dir.
        **writing: As for `cache_targets`.

    Raises:
        ValueError: Something of the recipe cannot be cached, with the reason, before any teacher is trained.
    """
    recipe = live(recipe)
    state = PartialState(cpu=bool(recipe.training.get("use_cpu")) or not torch.accelerator.is_available())
    workspace, task = Workspace(Path(recipe.output_dir)), task_of(recipe)
    cells = taught_cells(recipe)
    check_keys(recipe)
    check_head_cacheable(task.head)
    built = CODECS.build(codec, path="codec")
    place = Path(folder) if folder is not None else workspace.targets
    refuse_foreign(place)
    with state.main_process_first():
        workspace.claim(recipe, write=state.is_main_process)
    check_before_training(recipe, task, workspace, cells_of(recipe))
    with tempfile.TemporaryDirectory() as scratch:
        check_cacheable(recipe, task, workspace, cells, codec=built, scratch=Path(scratch))
        trainer = build_trainer(cells[0], recipe, task, None, workspace, labels_only=True)
        data = task.prepare(seed=cells[0].seed, cache_dir=workspace.cache)
        assert recipe.teacher is not None
        faculty = Assembly(recipe.teacher, task, workspace, Observer(trainer, data.fingerprint)).faculty()
        found = faculty.recorded()
        chosen = found.get("chosen")
        problem = found.get("transition_problem")
        check_plans(recipe, task, faculty.source, workspace, cells, chosen=chosen, problem=problem)
        return cache_targets(
            place,
            walks_of(recipe, task, faculty.source, workspace, cells, chosen=chosen, scratch=Path(scratch)),
            codec={"name": codec["name"], **vars(built)},
            max_length=max_length_of(task),
            about=About(data=about_data(recipe, data), teacher=found, recipe=recipe.to_dict()),
            **writing,
        )


def refuse_foreign(folder: Path) -> None:
    """Refuse a place for a cache that holds something else, before a teacher is trained for it.

    Raises:
        ValueError: It is a file, or a folder with something else than cached targets.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise ValueError(f"{folder} is not empty and holds no cached targets; choose another folder with --output")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; expected a folder for the cache, choose another with --output")


def codec_spec(
    recipe: Recipe, *, name: str | None = None, k: int | None = None, dtype: str | None = None
) -> dict[str, Any]:
    """Return a codec with its settings; where none is named, the exact one of the recipe's kind of head.

    Raises:
        ValueError: Unknown codec or number format, or a `k` for another codec than `top_k`.
    """
    fitting = "hidden" if task_of(recipe).head in TOKEN_HEADS else "logits"
    spec = {"name": name or fitting, "k": k, "dtype": dtype}
    given = {key: value for key, value in spec.items() if value is not None}
    return {"name": given["name"], **vars(CODECS.build(given, path="codec"))}


def live(recipe: Recipe) -> Recipe:
    """Return a recipe whose teacher runs, whatever it says of cached targets.

    Raises:
        ValueError: It has no teacher, or only its cached targets.
    """
    if recipe.teacher is None or not taught_cells(recipe):
        raise ValueError("the students of this recipe learn from labels only: there is no teacher to cache")
    if not recipe.teacher.can_run:
        raise ValueError(
            "teacher: names cached targets only; give `source` or `train`, so that the teacher can run for them"
        )
    return dataclasses.replace(recipe, teacher=dataclasses.replace(recipe.teacher, cached=None))


def check_cacheable(
    recipe: Recipe, task: Task, workspace: Workspace, cells: list[Cell], *, codec: Codec, scratch: Path
) -> None:
    """Refuse what cannot be cached, with untrained models in the place of those to be trained.

    Raises:
        ValueError: A curriculum, teacher or data set whose targets cannot be cached, by the curriculum's label.
    """
    assert recipe.teacher is not None
    teacher = StandIns(recipe.teacher, task, workspace).source()
    chosen = teacher.revisions[0].name if len(teacher.revisions) > 1 else None
    for cell in one_of_each(cells):
        with at(recipe.curriculum_path(cell.label)):
            walk = walk_of(cell, recipe, task, teacher, workspace, chosen=chosen, scratch=scratch)
            taught_by(walk)
            if teacher.revisions:
                check_plan_cacheable(walk.plan(), codec=codec)
            check_repeatable(walk)


def about_data(recipe: Recipe, data: TaskData) -> dict[str, Any]:
    """Return what a cache says of the data."""
    return {"fingerprint": data.fingerprint, "task": dict(recipe.task), "description": data.description}
