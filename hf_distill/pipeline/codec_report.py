"""`hf-distill cache report`: what each codec loses on a recipe's held-out data."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hf_distill.cache.comparison import CodecComparison, compare_codecs
from hf_distill.cache.format import MANIFEST, Manifest
from hf_distill.pipeline.caching import live
from hf_distill.pipeline.cells import build_trainer, task_of
from hf_distill.pipeline.checks import check_keys
from hf_distill.pipeline.teacher import open_teacher, train_teacher
from hf_distill.pipeline.walks import taught_cells
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe

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
    if recipe.teacher.train is not None:
        train_teacher(recipe, task, workspace)
    teacher = open_teacher(recipe, workspace)
    trainer = build_trainer(taught_cells(recipe)[0], recipe, task, None, workspace, labels_only=True)
    teacher.attach(head=task.head, accelerator=trainer.accelerator)
    names = [one.name for one in teacher.revisions]
    if revision is not None and revision not in names:
        raise ValueError(f"the teacher has no revision {revision!r}; it has {', '.join(names)}")
    loader = trainer.get_eval_dataloader()
    held_out = (batch for _, batch in zip(range(batches), loader, strict=False))
    place = len(names) - 1 if revision is None else names.index(revision)
    return compare_codecs(teacher, held_out, head=task.head, revision=place)


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
