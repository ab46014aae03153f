"""Students of a recipe that learn from cached targets: whether these are theirs, looked at before any training."""

from __future__ import annotations

import tempfile
from pathlib import Path

from accelerate import PartialState

from hf_distill.atomic import atomic_write_json
from hf_distill.cache.cacheable import check_plan_cacheable, check_repeatable
from hf_distill.cache.filling import Coverage
from hf_distill.cache.targets import tokenizer_hash
from hf_distill.pipeline.faculty import Assembly, Faculty
from hf_distill.pipeline.kept_files import read_kept
from hf_distill.pipeline.observer import Observer
from hf_distill.pipeline.open_targets import open_cache
from hf_distill.pipeline.places import at
from hf_distill.pipeline.student import finished_run
from hf_distill.pipeline.walks import fingerprint_of, max_length_of, taught_cells, walk_of
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.tasks import Task, TaskData
from hf_distill.teachers import TeacherSource
from hf_distill.teachers.cached import CachedTeacher

TARGETS_FILE = "teacher_targets.json"
LIVE = "the live teacher"


def faculty_of(recipe: Recipe, task: Task, workspace: Workspace, observer: Observer) -> Faculty:
    """Return who teaches a recipe's students: those it trains or finds, or what one of them said beforehand.

    Raises:
        ValueError: A teacher cannot be had; or the cached targets are damaged, unfinished, or of something else.
    """
    assert recipe.teacher is not None
    if not recipe.teacher.cached:
        faculty = Assembly(recipe.teacher, task, workspace, observer).faculty()
        pin_targets(workspace, LIVE, exact=True)
        return faculty
    teacher = open_cache(recipe.teacher, workspace)
    data = task.prepare(seed=recipe.seeds[0], cache_dir=workspace.cache)
    check_same_examples(teacher, task, data)
    teacher.attach(head=task.head, accelerator=observer.trainer.accelerator)
    workspace.pin_teacher(teacher.manifest(), write=PartialState().is_main_process)
    described, codec = dict(teacher.reader.describe()), teacher.reader.codec
    exact = codec.dtype == "float32" and not codec.up_to_a_constant
    pin_targets(workspace, f"cached targets ({described['codec']})", exact=exact)
    record = {"kind": "teacher", "source": str(recipe.teacher.cached), **teacher.manifest_of_cache.teacher}
    return Faculty(teacher, {**record, "cache": described}, [])


def check_same_examples(teacher: CachedTeacher, task: Task, data: TaskData) -> None:
    """Refuse targets of examples that this task cannot have.

    Raises:
        ValueError: They were written with another tokenizer, or for another max_length.
    """
    settings, where = teacher.manifest_of_cache.settings, teacher.reader.folder
    ours = tokenizer_hash(data.tokenizer) if data.tokenizer is not None else None
    if settings.tokenizer != ours:
        raise ValueError(
            f"the cached targets in {where} are foreign: their examples were made with another tokenizer than this "
            "recipe's; write targets for this recipe with `hf-distill cache`, or use theirs"
        )
    length = max_length_of(task)
    if settings.max_length != length:
        raise ValueError(
            f"the cached targets in {where} are foreign: they were written for examples of max_length "
            f"{settings.max_length}, and this recipe has {length}; write targets for this recipe with "
            "`hf-distill cache`"
        )


def check_covered(
    recipe: Recipe, task: Task, teacher: TeacherSource | None, workspace: Workspace, *, chosen: str | None
) -> None:
    """Look, before any training, whether each student will find all its targets.

    Runs that the cache was written for are known to be covered; the examples of others are gone through once, without
    their models.

    Args:
        recipe: What is to be run.
        task: Its task.
        teacher: Who teaches; anything but a cached teacher is passed over.
        workspace: Its folder.
        chosen: The revision that `auto` stands for.

    Raises:
        ValueError: An example has no target, or could not have one; the curriculum is named.
    """
    if not isinstance(teacher, CachedTeacher):
        return
    manifest = teacher.manifest_of_cache
    commits = [revision["commit"] for revision in manifest.revisions]
    with tempfile.TemporaryDirectory() as scratch:
        for cell in taught_cells(recipe):
            if finished_run(workspace.student(cell.label, cell.seed)) is not None:
                continue
            with at(f"{cell.label}, seed {cell.seed}"):
                walk = walk_of(cell, recipe, task, teacher, workspace, chosen=chosen, scratch=Path(scratch))
                check_plan_cacheable(walk.plan(), codec=teacher.reader.codec)
                check_repeatable(walk)
                data = task.prepare(seed=cell.seed, cache_dir=workspace.cache)
                if fingerprint_of(cell, data, chosen=chosen) not in manifest.walks:
                    walk.walk(Coverage(teacher.reader, commits=commits, inputs=manifest.settings.inputs))


def pin_targets(workspace: Workspace, targets: str, *, exact: bool) -> None:
    """Note what the students of a folder learn from; refuse to let some learn from rounded targets and some not.

    Args:
        workspace: Where they are trained.
        targets: What they learn from, for people.
        exact: Whether that is what the live teacher says, bit by bit but for the order of sums.

    Raises:
        ValueError: There are students here that learned from something else.
    """
    file, state = workspace.root / TARGETS_FILE, PartialState()
    if targets == LIVE and not file.is_file():
        return
    kept = read_kept(file, dict) if file.is_file() else {"targets": LIVE, "exact": True}
    if kept["targets"] != targets and not (exact and kept["exact"]) and workspace.holds_students():
        raise ValueError(
            f"students in {workspace.root} learned from {kept['targets']}, and others would now learn from {targets}: "
            "they could not be compared. Choose another folder with --set output_dir=..., or the same targets"
        )
    state.wait_for_everyone()
    if state.is_main_process:
        atomic_write_json(file, {"targets": targets, "exact": exact})
