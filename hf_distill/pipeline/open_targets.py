"""`teacher.cached` in a recipe: the folder or data set that it names, opened and compared with the teacher."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import PartialState

from hf_distill.pipeline.stand_ins import StandIns
from hf_distill.pipeline.teacher import open_model
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.recipe.teacher_spec import TeacherSpec
from hf_distill.tasks import Task
from hf_distill.teachers import TeacherSource
from hf_distill.teachers.base import loading_of
from hf_distill.teachers.cached import CachedTeacher
from hf_distill.teachers.revisions import Revision


def stand_in_of(recipe: Recipe, task: Task, workspace: Workspace) -> TeacherSource:
    """Return what stands in for the students' teacher before any training; cached targets stand for themselves.

    Raises:
        ValueError: A model, data, an argument or a curriculum of one of them that cannot work.
    """
    assert recipe.teacher is not None
    if not recipe.teacher.cached:
        return StandIns(recipe.teacher, task, workspace).source()
    # Their content is compared with its checksums when the run opens them.
    return open_cache(recipe.teacher, Workspace(Path(recipe.output_dir)), verify=False)


def open_cache(spec: TeacherSpec, workspace: Workspace, *, verify: bool = True) -> CachedTeacher:
    """Open the cached targets that a recipe's teacher block names, and compare them with its source.

    Raises:
        ValueError: They are unfinished or damaged, or of another state of the teacher.
    """
    cache = workspace.targets if spec.cached is True else str(spec.cached)
    teacher = CachedTeacher(
        cache,
        revisions=known_revisions(spec, workspace),
        verify=verify,
        trust_remote_code=spec.trust_remote_code,
        show_progress=PartialState().is_local_main_process,
    )
    ours, theirs = loading_of(spec.dtype, spec.quantization), teacher.manifest_of_cache.settings.loading
    if spec.can_run and spec.is_one_model and ours != theirs:
        raise ValueError(
            f"the cached targets in {teacher.reader.folder} are of a teacher whose weights were loaded otherwise: "
            f"there {_loading_text(theirs)}, here {_loading_text(ours)}. Write targets for this recipe with "
            "`hf-distill cache`, or set the teacher's dtype and quantization as they were"
        )
    return teacher


def _loading_text(loading: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in loading.items()) or "as they are stored"


def known_revisions(spec: TeacherSpec, workspace: Workspace) -> list[Revision] | None:
    """Return the revisions that a teacher block stands for now; None where it names none or they are not made yet.

    A teacher that is made of several is not put together for this.
    """
    if not spec.is_one_model or spec.assistants or spec.pruned is not None:
        return None
    if spec.train is not None and not workspace.teacher.is_dir():
        return None
    return list(open_model(spec, workspace.teacher).revisions)
