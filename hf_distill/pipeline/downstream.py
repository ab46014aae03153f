"""The downstream stage of a recipe: finished students, fine-tuned with labels on another task and recorded."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import PreTrainedModel, set_seed

from hf_distill.atomic import atomic_write_json
from hf_distill.pipeline.carrying import carried_share
from hf_distill.pipeline.final_metrics import final_metrics
from hf_distill.pipeline.places import at
from hf_distill.pipeline.student import RESULT_FILE, finished_run
from hf_distill.pipeline.teacher import open_teacher
from hf_distill.pipeline.training_arguments import training_arguments
from hf_distill.pipeline.workspace import Workspace, differences
from hf_distill.recipe.finetune_spec import FROM_SCRATCH, STUDENT, TEACHER, FinetuneSpec
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import DownstreamRecord, RevisionRecord, StudentRun
from hf_distill.strict_dataclass import from_mapping, to_mapping
from hf_distill.tasks import TASKS, Task, TaskData
from hf_distill.teachers.base import manifest_entry
from hf_distill.teachers.checkpoint_files import find_last_whole_checkpoint, has_tokenizer
from hf_distill.teachers.revisions import Revision, folder_of, resolve_revisions
from hf_distill.teachers.weight_files import content_hash
from hf_distill.trainer import ProgressiveDistillTrainer
from hf_distill.training.student_run import student_run

logger = logging.getLogger(__name__)

SETTINGS_FILE = "finetune.json"


@dataclass(frozen=True)
class Start:
    """Where a fine-tuning begins.

    Attributes:
        label: Of the curriculum that made the student, or FROM_SCRATCH, TEACHER, STUDENT.
        seed: Of the student and of the fine-tuning.
        model: A `model:` block of a recipe, of trained weights.
        fresh: Keep the architecture only and draw new weights.
        revision: Of the weights, where they were pinned already.
    """

    label: str
    seed: int
    model: dict[str, Any]
    fresh: bool = False
    revision: Revision | None = None

    def pin(self, root: Path) -> RevisionRecord | None:
        """Return what this begins with, pinned, a student's folder relative to the run's; None for new weights."""
        if self.fresh:
            return None
        if self.revision is not None:
            return from_mapping(RevisionRecord, manifest_entry(self.revision))
        folder = Path(self.model["pretrained"])
        name, source = f"{self.label}, seed {self.seed}", folder.relative_to(root).as_posix()
        return RevisionRecord(name=name, step=None, source=source, revision=None, commit=content_hash(folder))


class Downstream:
    """One block of `finetune:`.

    Args:
        spec: The block.
        path: Where it stands in the recipe.
        tokenizer: Of the student, as a task's `tokenizer:` block; None where the student reads no text.
        folder: Where its fine-tunings lie.
        cache_dir: Of the task's data.

    Raises:
        ValueError: Unknown task or option, or a task on text for a student that reads none.
    """

    def __init__(
        self, spec: FinetuneSpec, *, path: str, tokenizer: dict[str, Any] | None, folder: Path, cache_dir: Path
    ) -> None:
        self.spec, self.path, self.folder, self.cache_dir = spec, path, folder, cache_dir
        fields = dict(spec.task)
        kind = TASKS.get(fields["name"])
        if any(field.name == "tokenizer" for field in dataclasses.fields(kind)):
            if tokenizer is None:
                raise ValueError(f"{path}.task: reads text, but the student has no tokenizer; choose another task")
            fields["tokenizer"] = tokenizer
        self.task: Task = TASKS.build(fields, path=f"{path}.task")

    def data(self, seed: int) -> TaskData:
        """Return the task's data as a seed sees it.

        Raises:
            ValueError: It is missing, empty, or does not fit the tokenizer.
        """
        with at(f"{self.path}.task"):
            return self.task.prepare(seed=seed, cache_dir=self.cache_dir)

    def model(self, start: Start, data: TaskData) -> PreTrainedModel:
        """Return the model as the fine-tuning begins: trained weights below a new head, or new weights altogether.

        Raises:
            ValueError: It cannot be built for this task, or nothing of the trained weights is in it.
        """
        with at(f"{self.path}.task, from {start.label}"):
            set_seed(start.seed)
            model = self.task.build_model(start.model, data)
            if not start.fresh:
                return model
            set_seed(start.seed)
            return type(model)(model.config)

    def trainer(self, start: Start) -> ProgressiveDistillTrainer:
        """Build the trainer of one fine-tuning.

        Raises:
            ValueError: Model, data or arguments do not fit.
        """
        data = self.data(start.seed)
        arguments = training_arguments(
            self.spec.training,
            task=self.task,
            output_dir=self.place(start),
            curriculum={"name": "labels"},
            seed=start.seed,
            path=f"{self.path}.training",
        )
        return self.task.trainer_class()(model=self.model(start, data), args=arguments, **data.for_trainer())

    def place(self, start: Start) -> Path:
        """Return the folder of one fine-tuning."""
        return self.folder / start.label / f"seed-{start.seed}"

    def run(self, start: Start, root: Path) -> StudentRun:
        """Fine-tune to the end, or go on, or return the record of a finished one."""
        folder = self.place(start)
        kept = finished_run(folder)
        if kept is not None:
            return kept
        trainer = self.trainer(start)
        resumable = folder.exists() and not trainer.args.save_only_model
        checkpoint = find_last_whole_checkpoint(folder) if resumable else None
        logger.info("Fine-tuning %s, seed %d, on %s", start.label, start.seed, self.spec.name)
        began_with = start.pin(root) if trainer.is_world_process_zero() else None
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        metrics = final_metrics(trainer, self.data(start.seed).further)
        trainer.save_model()
        run = student_run(
            trainer,
            curriculum=start.label,
            folder=folder.relative_to(root).as_posix(),
            final_metrics=metrics,
            metric=self.task.metric,
            level=None,
            greater_is_better=self.task.greater_is_better,
        )
        run.began_with = began_with
        if trainer.is_world_process_zero():
            atomic_write_json(folder / RESULT_FILE, to_mapping(run))
        trainer.accelerator.wait_for_everyone()
        return run

    def claim(self, *, write: bool) -> None:
        """Take the folder for this block.

        Raises:
            ValueError: It holds fine-tunings of another task or with other arguments.
        """
        file, settings = self.folder / SETTINGS_FILE, {"task": self.spec.task, "training": self.spec.training}
        before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else settings
        differing = differences(before, settings)
        if differing and any(self.folder.glob("*/*/*")):
            raise ValueError(
                f"{self.path}: {self.folder} holds fine-tunings of another block {self.spec.name!r}, which differs in "
                f"{', '.join(differing)}; give this one another name, or move the old folder away"
            )
        if write:
            atomic_write_json(file, settings)


def fine_tune(recipe: Recipe, task: Task, workspace: Workspace) -> Iterator[DownstreamRecord]:
    """Fine-tune a recipe's finished students on every task of `finetune:`; yield each record as it grows.

    Raises:
        ValueError: A model, data or an argument does not fit; or a folder holds something else.
    """
    writes = PartialState().is_main_process
    for block in blocks_of(recipe, student_tokenizer(recipe, task, workspace), workspace):
        block.claim(write=writes)
        starts = starts_of(recipe, block.spec, workspace)
        record = new_record(block, starts)
        for start in starts:
            record.runs.append(block.run(start, workspace.root))
            yield record


def new_record(block: Downstream, starts: list[Start]) -> DownstreamRecord:
    """Return the record of a block before its first fine-tuning, with how much of each student goes into it."""
    data = block.data(starts[0].seed)
    carried: dict[str, float] = {}
    for start in starts:
        if not start.fresh and start.label not in carried:
            carried[start.label] = carried_share(block.model(start, data), Path(start.model["pretrained"]))
    return DownstreamRecord(
        name=block.spec.name,
        task={
            "name": block.spec.task["name"],
            "head": block.task.head,
            "metric": block.task.metric,
            "greater_is_better": block.task.greater_is_better,
            "level": None,
            "description": data.description,
        },
        carried=carried,
    )


def blocks_of(recipe: Recipe, tokenizer: dict[str, Any] | None, workspace: Workspace) -> list[Downstream]:
    """Return the blocks of a recipe.

    Args:
        recipe: The recipe.
        tokenizer: Of its student.
        workspace: Its folder.

    Raises:
        ValueError: A task that does not exist, or an unknown option.
    """
    return [
        Downstream(
            spec,
            path=f"finetune[{place}]",
            tokenizer=tokenizer,
            folder=workspace.finetuned(spec.name),
            cache_dir=workspace.cache,
        )
        for place, spec in enumerate(recipe.finetune)
    ]


def starts_of(recipe: Recipe, spec: FinetuneSpec, workspace: Workspace) -> list[Start]:
    """Return where the fine-tunings of a block begin: students by curriculum and seed, then their baselines.

    Raises:
        ValueError: The teacher cannot be had.
    """
    seeds = spec.seeds if spec.seeds is not None else recipe.seeds
    labels = list(recipe.curricula())
    starts = [
        Start(label, seed, {"pretrained": str(workspace.student(label, seed))}) for label in labels for seed in seeds
    ]
    if not labels:
        revision, folder = found_student(recipe)
        starts = [Start(STUDENT, seed, {"pretrained": str(folder)}, revision=revision) for seed in seeds]
    if spec.from_scratch:
        starts += [Start(FROM_SCRATCH, seed, starts[0].model, fresh=True) for seed in seeds]
    if spec.teacher:
        assert recipe.teacher is not None
        revision = open_teacher(recipe, workspace).revisions[-1]
        folder = folder_of(revision, allow_pickled_weights=recipe.teacher.allow_pickled_weights)
        starts += [Start(TEACHER, seed, {"pretrained": str(folder)}, revision=revision) for seed in seeds]
    return starts


def student_tokenizer(recipe: Recipe, task: Task, workspace: Workspace) -> dict[str, Any] | None:
    """Return the students' tokenizer as a task's `tokenizer:` block; None where they read no text."""
    labels = list(recipe.curricula())
    if not labels:
        folder = found_student(recipe)[1]
        return {"pretrained": str(folder)} if has_tokenizer(folder) else None
    data = task.prepare(seed=recipe.seeds[0], cache_dir=workspace.cache)
    return None if data.tokenizer is None else {"pretrained": str(workspace.student(labels[0], recipe.seeds[0]))}


def found_student(recipe: Recipe) -> tuple[Revision, Path]:
    """Return the student of a recipe that distils nothing, pinned, and the folder of its weights.

    Raises:
        ValueError: It cannot be had.
    """
    model = recipe.student.model
    with at("student.model.pretrained"):
        source = str(model["pretrained"])
        spec = f"{source}@{model['revision']}" if model.get("revision") else source
        revision = resolve_revisions(spec)[-1]
        return revision, folder_of(revision)
