"""The teacher of a recipe: found where the recipe says, or trained first with its checkpoints kept."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from hf_distill.analysis.revision_scores import score_revisions
from hf_distill.atomic import atomic_write_json
from hf_distill.pipeline.training_arguments import training_arguments
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe import Recipe
from hf_distill.switching import TIMINGS, held_out_points
from hf_distill.tasks import Task, TaskData
from hf_distill.teachers import TeacherSequence
from hf_distill.teachers.checkpoint_files import find_last_whole_checkpoint
from hf_distill.trainer import ProgressiveDistillTrainer

logger = logging.getLogger(__name__)

KEEP_ALL: dict[str, Any] = {"save_strategy": "steps", "save_total_limit": None}


class StopAtLevel(TrainerCallback):
    """Stops training, with a checkpoint, once a held-out metric has reached a level."""

    def __init__(self, metric: str, level: float, *, greater_is_better: bool) -> None:
        self.metric = metric
        self.level = level
        self.sign = 1.0 if greater_is_better else -1.0

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Ask for a last checkpoint and the end."""
        found = (metrics or {}).get(f"eval_{self.metric}")
        if found is None:
            raise ValueError(f"stop_at.metric: no held-out metric {self.metric!r}; there are {sorted(metrics or {})}")
        if self.sign * found >= self.sign * self.level:
            control.should_save = True
            control.should_training_stop = True


def teacher_trainer(recipe: Recipe, task: Task, data: TaskData, workspace: Workspace) -> ProgressiveDistillTrainer:
    """Build the trainer of the recipe's own teacher: the `labels` curriculum, every checkpoint kept.

    Raises:
        ValueError: Model, data or arguments do not fit.
    """
    assert recipe.teacher is not None and recipe.teacher.train is not None
    train = recipe.teacher.train
    arguments = training_arguments(
        {**KEEP_ALL, **train.training},
        output_dir=workspace.teacher,
        curriculum={"name": "labels"},
        seed=train.seed,
        path="teacher.train.training",
    )
    set_seed(train.seed)
    stop = train.stop_at
    callbacks = []
    if stop is not None:
        callbacks.append(StopAtLevel(stop.metric, stop.level, greater_is_better=task.greater_is_better))
    return ProgressiveDistillTrainer(
        model=task.build_model(train.model, data),
        args=arguments,
        **data.for_trainer(),
        callbacks=callbacks,
    )


def train_teacher(recipe: Recipe, task: Task, workspace: Workspace) -> dict[str, Any]:
    """Train the recipe's teacher, or continue, or find it finished; return its final metrics and seconds.

    Raises:
        ValueError: Model, data or arguments do not fit.
    """
    assert recipe.teacher is not None and recipe.teacher.train is not None
    finished = workspace.teacher / "finished.json"
    if finished.exists():
        return json.loads(finished.read_text(encoding="utf-8"))
    data = task.prepare(seed=recipe.teacher.train.seed, cache_dir=workspace.cache)
    trainer = teacher_trainer(recipe, task, data, workspace)
    resumable = not trainer.args.save_only_model
    checkpoint = find_last_whole_checkpoint(workspace.teacher) if resumable and workspace.teacher.exists() else None
    logger.info("Training the teacher%s", f" from {checkpoint.name}" if checkpoint else "")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    result = {"final_metrics": final_metrics(trainer), "seconds": trainer.training_seconds}
    if trainer.is_world_process_zero():
        atomic_write_json(finished, result)
    trainer.accelerator.wait_for_everyone()
    return result


def final_metrics(trainer: ProgressiveDistillTrainer) -> dict[str, float]:
    """Return the held-out metrics at the end of training, without prefix and timings; evaluates only if need be."""
    points = held_out_points(trainer.state.log_history)
    if not points or points[-1]["step"] != trainer.state.global_step or trainer.args.load_best_model_at_end:
        trainer.evaluate()
        points = held_out_points(trainer.state.log_history)
    return {key: value for key, value in points[-1].items() if key != "step" and not key.endswith(TIMINGS)}


def open_teacher(recipe: Recipe, workspace: Workspace) -> TeacherSequence:
    """Return the recipe's teacher sequence: its source, or the checkpoints of the teacher it trained.

    Raises:
        ValueError: A revision is missing, half-written, pickled or not to be had.
    """
    assert recipe.teacher is not None
    chosen = recipe.teacher
    return TeacherSequence(
        chosen.source if chosen.source is not None else workspace.teacher,
        dtype=chosen.dtype,
        tokenizer=chosen.tokenizer,
        allow_pickled_weights=chosen.allow_pickled_weights,
        trust_remote_code=chosen.trust_remote_code,
        on_download_failure=chosen.on_download_failure,
        max_cached_gb=chosen.max_cached_gb,
    )


def scores_of(
    teacher: TeacherSequence, trainer: ProgressiveDistillTrainer, folder: Path, *, data: str
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
        kept = json.loads(file.read_text(encoding="utf-8"))
        if key.items() <= kept.items():
            return kept["scores"]
    scores = score_revisions(teacher, trainer.get_eval_dataloader(), head=trainer.distillation.head)
    if trainer.is_world_process_zero():
        atomic_write_json(file, {**key, "scores": scores})
    return scores
