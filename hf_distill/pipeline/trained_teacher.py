"""Models that a recipe trains so that others learn from them: its teacher, members of an ensemble, assistants."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, set_seed

from hf_distill.atomic import atomic_write_json
from hf_distill.pipeline.final_metrics import final_metrics
from hf_distill.pipeline.kept_files import read_kept
from hf_distill.pipeline.places import said_of
from hf_distill.pipeline.training_arguments import best_metric_named, training_arguments
from hf_distill.recipe.teacher_spec import TeacherTraining
from hf_distill.tasks import Task, TaskData
from hf_distill.teachers import TeacherSource
from hf_distill.teachers.checkpoint_files import find_last_whole_checkpoint
from hf_distill.trainer import ProgressiveDistillTrainer

logger = logging.getLogger(__name__)

KEEP_ALL: dict[str, Any] = {"save_strategy": "steps", "save_total_limit": None}
RESULT_FILE = "finished.json"


@dataclass(frozen=True, kw_only=True)
class TrainedTeacher:
    """A model to be trained, all of its checkpoints kept.

    Attributes:
        name: For people: "teacher", "member 2", "assistant 1".
        training: How it is trained.
        folder: Where its checkpoints lie.
        path: Of its block in the recipe.
        curriculum: What it learns from.
    """

    name: str
    training: TeacherTraining
    folder: Path
    path: str
    curriculum: dict[str, Any] = field(default_factory=lambda: {"name": "labels"})

    def trainer(
        self, task: Task, data: TaskData, *, teacher: TeacherSource | None = None
    ) -> ProgressiveDistillTrainer:
        """Build its trainer.

        Raises:
            ValueError: Model, data, teacher, curriculum or arguments do not fit.
        """
        spec = self.training
        arguments = training_arguments(
            {**KEEP_ALL, **spec.training},
            task=task,
            output_dir=self.folder,
            curriculum=self.curriculum,
            seed=spec.seed,
            path=f"{self.path}.training",
        )
        self._check_saving(arguments)
        set_seed(spec.seed)
        callbacks = []
        if spec.stop_at is not None:
            stop = spec.stop_at
            callbacks.append(StopAtLevel(stop.metric, stop.level, greater_is_better=task.greater_is_better))
        with said_of("model", f"{self.path}.model"):
            model = task.build_model(spec.model, data)
        return task.trainer_class()(
            model=model,
            teacher=teacher if self.curriculum["name"] != "labels" else None,
            args=arguments,
            **data.for_trainer(),
            callbacks=callbacks,
        )

    def _check_saving(self, arguments: TrainingArguments) -> None:
        if arguments.save_strategy == "no":
            raise ValueError(
                f"{self.path}.training.save_strategy: others learn from the checkpoints of the {self.name}; leave it "
                "out, or write steps or epoch"
            )
        if self.training.stop_at is not None and arguments.eval_strategy == "no":
            raise ValueError(
                f"{self.path}.stop_at: there are no evaluations at which it could stop; give "
                f"{self.path}.training.eval_strategy and eval_steps"
            )

    def train(
        self, task: Task, *, cache_dir: Path, teacher: TeacherSource | None = None, chosen: str | None = None
    ) -> dict[str, Any]:
        """Train it, or continue, or find it finished; return final metrics, seconds and, if taught, by what.

        Args:
            task: Its task.
            cache_dir: Of the task's data.
            teacher: Who teaches it; None where it learns from labels.
            chosen: The teacher's revision that `auto` stands for.

        Raises:
            ValueError: Model, data or arguments do not fit, or it is there and learned from another teacher.
        """
        taught_by = [entry["commit"] for entry in teacher.manifest()] if teacher is not None else []
        kept = self.finished(taught_by)
        if kept is not None:
            return kept
        data = task.prepare(seed=self.training.seed, cache_dir=cache_dir)
        trainer = self.trainer(task, data, teacher=teacher)
        if trainer.distillation.curriculum.needs_scores:
            trainer.distillation.chosen_revision = chosen
        resumable = not trainer.args.save_only_model
        checkpoint = find_last_whole_checkpoint(self.folder) if resumable and self.folder.exists() else None
        logger.info("Training the %s%s", self.name, f" from {checkpoint.name}" if checkpoint else "")
        with best_metric_named(f"{self.path}.training"):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        metrics = final_metrics(trainer, data.further)
        result: dict[str, Any] = {"final_metrics": metrics, "seconds": trainer.training_seconds}
        if trainer.teacher is not None:
            assert trainer.distillation.plan is not None
            terms = trainer.distillation.plan.stages[-1].terms
            result |= {"loss": " + ".join(term.formula() for term in terms), "taught_by": taught_by}
        if trainer.is_world_process_zero():
            atomic_write_json(self.folder / RESULT_FILE, result)
        trainer.accelerator.wait_for_everyone()
        return result

    def finished(self, taught_by: list[str]) -> dict[str, Any] | None:
        """Return what `train` returned when it ended, or None.

        Args:
            taught_by: The commits of its teacher's revisions.

        Raises:
            ValueError: It learned from others, or what it left cannot be read.
        """
        file = self.folder / RESULT_FILE
        if not file.exists():
            return None
        result = read_kept(file, dict)
        before = result.get("taught_by", taught_by)
        if before != taught_by:
            raise ValueError(
                f"the {self.name} in {self.folder} learned from another teacher: it had {', '.join(before)}, now it "
                f"would have {', '.join(taught_by)}. Bring the old one back, or choose another folder with --set "
                "output_dir=..."
            )
        return result


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
            there = sorted(key.removeprefix("eval_") for key in metrics or {} if key.startswith("eval_"))
            raise ValueError(f"stop_at.metric: no held-out metric {self.metric!r}; there are {', '.join(there)}")
        if self.sign * found >= self.sign * self.level:
            control.should_save = True
            control.should_training_stop = True
