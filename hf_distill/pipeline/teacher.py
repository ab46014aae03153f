"""The teacher of a recipe: found where the recipe says, or trained first with its checkpoints kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_distill.analysis.revision_scores import score_revisions
from hf_distill.atomic import atomic_write_json
from hf_distill.models.compatibility import unwrap_peft
from hf_distill.models.label_maps import label_order
from hf_distill.pipeline.kept_files import read_kept
from hf_distill.pipeline.trained_teacher import TrainedTeacher
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.recipe.teacher_spec import ModelSpec
from hf_distill.recipe.teaching import training_of
from hf_distill.tasks import Task, TaskData
from hf_distill.teachers import TeacherSequence, TeacherSource
from hf_distill.trainer import ProgressiveDistillTrainer


def own_teacher(recipe: Recipe, workspace: Workspace) -> TrainedTeacher:
    """Return the teacher that a recipe trains: the `labels` curriculum, every checkpoint kept.

    Raises:
        ValueError: It trains none.
    """
    assert recipe.teacher is not None
    training = training_of(recipe.teacher)
    return TrainedTeacher(name="teacher", training=training, folder=workspace.teacher, path="teacher.train")


def teacher_trainer(recipe: Recipe, task: Task, data: TaskData, workspace: Workspace) -> ProgressiveDistillTrainer:
    """Build the trainer of the recipe's own teacher.

    Raises:
        ValueError: Model, data or arguments do not fit.
    """
    return own_teacher(recipe, workspace).trainer(task, data)


def train_teacher(recipe: Recipe, task: Task, workspace: Workspace) -> dict[str, Any]:
    """Train the recipe's teacher, or continue, or find it finished; return its final metrics and seconds.

    Raises:
        ValueError: Model, data or arguments do not fit.
    """
    return own_teacher(recipe, workspace).train(task, cache_dir=workspace.cache)


def open_teacher(recipe: Recipe, workspace: Workspace) -> TeacherSequence:
    """Return the recipe's teacher sequence: its source, or the checkpoints of the teacher it trained.

    Raises:
        ValueError: The teacher is not one model; or a revision is missing, half-written, pickled or not to be had.
    """
    assert recipe.teacher is not None
    if not recipe.teacher.is_one_model:
        kind = "an ensemble" if recipe.teacher.ensemble is not None else "the student itself"
        kind = kind if recipe.teacher.can_run else "what was cached of it"
        raise ValueError(f"the teacher of this recipe is {kind}, which has no revisions of its own to look at")
    return open_model(recipe.teacher, workspace.teacher)


def open_model(spec: ModelSpec, folder: Path) -> TeacherSequence:
    """Return the revisions that a teacher's block stands for.

    Args:
        spec: The block.
        folder: Where its checkpoints lie if the recipe trains it.

    Raises:
        ValueError: A revision is missing, half-written, pickled or not to be had.
    """
    return TeacherSequence(
        spec.source if spec.source is not None else folder,
        dtype=spec.dtype,
        tokenizer=spec.tokenizer,
        allow_pickled_weights=spec.allow_pickled_weights,
        trust_remote_code=spec.trust_remote_code,
        on_download_failure=spec.on_download_failure,
        max_cached_gb=spec.max_cached_gb,
        quantization=spec.quantization,
        offload=spec.offload,
        compiled=spec.compile,
        sharded=spec.sharded,
    )


def scores_of(
    teacher: TeacherSource, trainer: ProgressiveDistillTrainer, folder: Path, *, data: str
) -> list[dict[str, Any]]:
    """Return the held-out scores of all revisions, kept in `teacher_scores.json` for the same revisions and data.

    Args:
        teacher: Attached.
        trainer: Hands out the held-out batches.
        folder: Where the scores are kept.
        data: Fingerprint of the task's data.
    """
    file = folder / "teacher_scores.json"
    key = {"commits": [revision.commit for revision in teacher.revisions], "data": data}
    if file.exists():
        kept = read_kept(file, dict)
        if key.items() <= kept.items():
            return kept["scores"]
    head, student = trainer.distillation.head, unwrap_peft(trainer.model)
    order = label_order(head, student.config, teacher.config)
    scores = score_revisions(teacher, trainer.get_eval_dataloader(), head=head, order=order)
    if trainer.is_world_process_zero():
        atomic_write_json(file, {**key, "scores": scores})
    return scores
