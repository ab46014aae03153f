"""The downstream stage of a recipe, built before any training with untrained models in the place of the students."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hf_distill.pipeline.carrying import carried_share
from hf_distill.pipeline.downstream import Start, blocks_of, found_student, student_tokenizer
from hf_distill.pipeline.places import at
from hf_distill.pipeline.student_model import student_model
from hf_distill.pipeline.training_arguments import checked_training
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.tasks import TASKS, Task, TaskData
from hf_distill.teachers.revisions import folder_of, resolve_revisions


def check_finetune_keys(recipe: Recipe) -> None:
    """Check task and training blocks of `finetune:`, for which no model and no data is needed.

    Raises:
        ValueError: An unknown key, or a value of the wrong type or range.
    """
    for place, spec in enumerate(recipe.finetune):
        with at(f"finetune[{place}].task.name"):
            TASKS.get(spec.task["name"])
        task = TASKS.build(spec.task, path=f"finetune[{place}].task")
        checked_training(spec.training, task=task, path=f"finetune[{place}].training")


def check_downstream(recipe: Recipe, task: Task, workspace: Workspace) -> None:
    """Build data, models and arguments of every fine-tuning once, as far as they can be known.

    Raises:
        ValueError: Something of them cannot work, or nothing of a student would be carried over.
    """
    if not recipe.finetune:
        return
    with tempfile.TemporaryDirectory() as scratch:
        stand_ins = _stand_ins(recipe, task, workspace, Path(scratch))
        student = stand_ins["student"]
        tokenizer = {"pretrained": str(student)} if student_has_tokenizer(recipe, task, workspace) else None
        for block in blocks_of(recipe, tokenizer, workspace):
            block.claim(write=False)
            block.folder = Path(scratch) / "finetune"
            wanted = ["student", *(["teacher"] if block.spec.teacher else [])]
            for name in wanted:
                start = Start(name, recipe.seeds[0], {"pretrained": str(stand_ins[name])})
                trainer = block.trainer(start)
                with at(f"{block.path}, from the {name}"):
                    carried_share(trainer.model, stand_ins[name])


def student_has_tokenizer(recipe: Recipe, task: Task, workspace: Workspace) -> bool:
    """Whether the students will read text."""
    return student_tokenizer(recipe, task, workspace) is not None


def _stand_ins(recipe: Recipe, task: Task, workspace: Workspace, scratch: Path) -> dict[str, Path]:
    """Return folders of what the fine-tunings begin with: untrained where it is to be trained."""
    found: dict[str, Path] = {}
    data = task.prepare(seed=recipe.seeds[0], cache_dir=workspace.cache) if recipe.curricula() else None
    if data is None:
        found["student"] = found_student(recipe)[1]
    else:
        student_model(recipe, task, data, workspace).save_pretrained(scratch / "student")
        found["student"] = _with_tokenizer(scratch / "student", data)
    if any(spec.teacher for spec in recipe.finetune):
        assert recipe.teacher is not None
        if recipe.teacher.train is not None and data is not None:
            task.build_model(recipe.teacher.train.model, data).save_pretrained(scratch / "teacher")
            found["teacher"] = _with_tokenizer(scratch / "teacher", data)
        else:
            revision = resolve_revisions(
                recipe.teacher.source or [], allow_pickled_weights=recipe.teacher.allow_pickled_weights
            )[-1]
            found["teacher"] = folder_of(revision, allow_pickled_weights=recipe.teacher.allow_pickled_weights)
    return found


def _with_tokenizer(folder: Path, data: TaskData) -> Path:
    if data.tokenizer is not None:
        data.tokenizer.save_pretrained(folder)
    return folder
