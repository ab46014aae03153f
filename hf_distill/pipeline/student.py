"""One student: a curriculum with a seed, trained, resumed or found finished, and recorded."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import set_seed

from hf_distill.atomic import atomic_write_json
from hf_distill.pipeline.adapter import export, with_adapter
from hf_distill.pipeline.final_metrics import final_metrics
from hf_distill.pipeline.kept_files import read_kept
from hf_distill.pipeline.student_model import student_model
from hf_distill.pipeline.training_arguments import best_metric_named, training_arguments
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import StudentRun
from hf_distill.strict_dataclass import from_mapping, to_mapping
from hf_distill.tasks import Task
from hf_distill.teachers import TeacherSource
from hf_distill.teachers.checkpoint_files import find_last_whole_checkpoint
from hf_distill.trainer import ProgressiveDistillTrainer
from hf_distill.training.student_run import student_run

logger = logging.getLogger(__name__)

RESULT_FILE = "student_run.json"


def student_trainer(
    recipe: Recipe,
    task: Task,
    *,
    curriculum: Mapping[str, Any],
    training: Mapping[str, Any],
    seed: int,
    teacher: TeacherSource | None,
    folder: Path,
    workspace: Workspace,
) -> ProgressiveDistillTrainer:
    """Build the trainer of one student. The same seed gives the same weights and data under every curriculum.

    Raises:
        ValueError: Model, data, teacher, curriculum or arguments do not fit.
    """
    data = task.prepare(seed=seed, cache_dir=workspace.cache)
    arguments = training_arguments(
        training, task=task, output_dir=folder, curriculum=curriculum, seed=seed, path="training"
    )
    set_seed(seed)
    model: Any = student_model(recipe, task, data, workspace)
    return task.trainer_class()(
        model=model if recipe.student.lora is None else with_adapter(model, recipe.student),
        teacher=teacher if curriculum["name"] != "labels" else None,
        args=arguments,
        **data.for_trainer(),
    )


def finished_run(folder: Path) -> StudentRun | None:
    """Return the record of a student that is finished, or None.

    Raises:
        ValueError: It cannot be read.
    """
    file = folder / RESULT_FILE
    if not file.exists():
        return None
    return from_mapping(StudentRun, read_kept(file, dict), path=str(file))


def train_student(
    trainer: ProgressiveDistillTrainer, recipe: Recipe, task: Task, *, label: str, workspace: Workspace
) -> StudentRun:
    """Train one student to the end, from its newest whole checkpoint where there is one, and save it."""
    folder = Path(trainer.args.output_dir)
    checkpoint = find_last_whole_checkpoint(folder) if folder.exists() else None
    resume = str(checkpoint) if checkpoint is not None and not trainer.args.save_only_model else None
    logger.info("%s, seed %d%s", label, trainer.args.seed, f", from {checkpoint.name}" if checkpoint else "")
    with best_metric_named("training"):
        trainer.train(resume_from_checkpoint=resume)
    data = task.prepare(seed=trainer.args.seed, cache_dir=workspace.cache)
    metrics = final_metrics(trainer, data.further)
    export(trainer, recipe.student, base=lambda: student_model(recipe, task, data, workspace, quantized=False))
    run = student_run(
        trainer,
        curriculum=label,
        folder=folder.relative_to(workspace.root).as_posix(),
        final_metrics=metrics,
        metric=task.metric,
        level=recipe.level,
        greater_is_better=task.greater_is_better,
    )
    if trainer.is_world_process_zero():
        atomic_write_json(folder / RESULT_FILE, to_mapping(run))
    trainer.accelerator.wait_for_everyone()
    return run
