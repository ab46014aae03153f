"""`hf-distill cache report`: what each codec loses on a recipe's held-out data."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from hf_distill.cache.comparison import CodecComparison, compare_codecs
from hf_distill.cache.format import MANIFEST, Manifest
from hf_distill.pipeline.caching import live
from hf_distill.pipeline.cells import build_trainer, task_of
from hf_distill.pipeline.checks import check_keys
from hf_distill.pipeline.stand_ins import promised_revisions
from hf_distill.pipeline.teacher import open_teacher, teacher_trainer, train_teacher
from hf_distill.pipeline.walks import taught_cells
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.teachers.revisions import Revision

REPORT_FILE = "codec_report.json"


def codec_report(where: str | Path, overrides: list[str], *, batches: int, revision: str | None) -> CodecComparison:
    """Compare the codecs on held-out batches of a recipe, with its live teacher.

    Args:
        where: A recipe, or a folder of cached targets, whose recipe is taken.
        overrides: Changes of the recipe, "key=value".
        batches: Of the recipe's evaluation size.
        revision: Name of the teacher's revision that speaks; the final one by default.

    Raises:
        ValueError: The recipe has no teacher of its own, or the revision does not exist.
    """
    recipe = live(recipe_of(where, overrides))
    workspace, task = Workspace(Path(recipe.output_dir)), task_of(recipe)
    check_keys(recipe)
    workspace.claim(recipe, write=True)
    assert recipe.teacher is not None
    # Before the teacher is trained: models, data and the name of a revision may be refused.
    trainer = build_trainer(taught_cells(recipe)[0], recipe, task, None, workspace, labels_only=True)
    if recipe.teacher.train is not None:
        data = task.prepare(seed=recipe.teacher.train.seed, cache_dir=workspace.cache)
        promised = promised_revisions(teacher_trainer(recipe, task, data, workspace).args)
        if promised:
            _place_of(revision, promised)
        train_teacher(recipe, task, workspace)
    teacher = open_teacher(recipe, workspace)
    teacher.attach(head=task.head, accelerator=trainer.accelerator)
    loader = trainer.get_eval_dataloader()
    held_out = (batch for _, batch in zip(range(batches), loader, strict=False))
    return compare_codecs(teacher, held_out, head=task.head, revision=_place_of(revision, teacher.revisions))


def _place_of(name: str | None, revisions: Sequence[Revision]) -> int:
    names = [one.name for one in revisions]
    if name is not None and name not in names:
        raise ValueError(f"the teacher has no revision {name!r}; it has {', '.join(names)}")
    return len(names) - 1 if name is None else names.index(name)


def recipe_of(where: str | Path, overrides: list[str]) -> Recipe:
    """Return a recipe, given as such or as the folder of a cache that was written for it.

    Raises:
        ValueError: There is none.
    """
    folder = Path(where)
    if not (folder / MANIFEST).is_file():
        return Recipe.load(where, overrides)
    kept = Manifest.load(folder).recipe
    if kept is None:
        raise ValueError(f"{folder} was not written for a recipe; give the recipe to compare codecs on")
    with tempfile.TemporaryDirectory() as scratch:
        return Recipe.load(Recipe.from_dict(kept).save(Path(scratch) / f"{kept['name']}.yaml"), overrides)
