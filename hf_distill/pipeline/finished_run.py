"""What a run leaves to look at: its data, its teacher's revisions and its students, in eval mode."""

from __future__ import annotations

import dataclasses
import fnmatch
import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset
from transformers import PreTrainedModel

from hf_distill.models.inputs import model_inputs
from hf_distill.models.label_maps import in_order, label_names, order_of
from hf_distill.models.outputs import logits_of
from hf_distill.pipeline.cells import Cell, cells_of, task_of
from hf_distill.pipeline.student import finished_run
from hf_distill.pipeline.teacher import open_teacher
from hf_distill.pipeline.workspace import RECIPE_FILE, Workspace
from hf_distill.reading.signals import TARGET_KEYS, select_rows
from hf_distill.recipe.recipe import Recipe
from hf_distill.tasks import Task, TaskData
from hf_distill.teachers import TeacherSequence
from hf_distill.teachers.checkpoint_files import ADAPTER, whole_checkpoint_problem

Which = Literal["all", "teacher", "students"]


class RunModel(NamedTuple):
    """One model of a run. The teacher's revisions share one module: finish with one before you take the next."""

    name: str
    step: int | None
    curriculum: str | None
    """None for the teacher."""
    seed: int | None
    model: Any


class FinishedRun:
    """The models and the data of a recipe's run.

    Args:
        recipe: What was run; nothing is trained here.

    Raises:
        ValueError: Its `output_dir` holds another recipe's run.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.task: Task = task_of(recipe)
        self.workspace = Workspace(Path(recipe.output_dir))
        self.workspace.claim(recipe, write=False)
        on_cpu = recipe.training.get("use_cpu", False) or not torch.accelerator.is_available()
        accelerator = None if on_cpu else torch.accelerator.current_accelerator()
        self.device = accelerator or torch.device("cpu")

    @classmethod
    def open(cls, run: str | Path, overrides: Sequence[str] = ()) -> FinishedRun:
        """Open the folder of a run, which may have been moved, or the run of a recipe.

        Args:
            run: A run's `output_dir`, a recipe file, or the name of a recipe of the package.
            overrides: Changes of the recipe, "key=value".

        Raises:
            ValueError: No such folder or recipe, or a folder without a run.
        """
        folder = Path(run)
        if not folder.is_dir():
            return cls(Recipe.load(run, overrides))
        if not (folder / RECIPE_FILE).is_file():
            raise ValueError(
                f"{folder} holds no run: it has no {RECIPE_FILE}. Give the output_dir of a run or a recipe."
            )
        recipe = Recipe.load(folder / RECIPE_FILE, overrides)
        return cls(dataclasses.replace(recipe, output_dir=str(folder)))

    @cached_property
    def data(self) -> TaskData:
        """The task's data, with the training examples of the recipe's first seed."""
        return self.task.prepare(seed=self.recipe.seeds[0], cache_dir=self.workspace.cache)

    def batches(self, side: Literal["train", "validation"], *, examples: int | None = None) -> list[dict[str, Any]]:
        """Return the first `examples` of a side in batches of the recipe's size, on the device.

        Raises:
            ValueError: `examples` is below 1.
        """
        if examples is not None and examples < 1:
            raise ValueError(f"examples: expected at least 1, got {examples}")
        chosen: Any = self.data.train if side == "train" else self.data.validation
        if examples is not None:
            chosen = Subset(chosen, range(min(examples, len(chosen))))
        loader = DataLoader(chosen, batch_size=self.batch_size(side), collate_fn=self.data.collator)
        return [_on(self.device, batch) for batch in loader]

    def batch_size(self, side: Literal["train", "validation"]) -> int:
        """Return the recipe's batch size for a side."""
        key = "per_device_train_batch_size" if side == "train" else "per_device_eval_batch_size"
        return int(self.recipe.training.get(key, 8))

    @cached_property
    def teacher(self) -> TeacherSequence | None:
        """The teacher's revisions, attached; None where the recipe has no teacher or has not trained it yet.

        Raises:
            ValueError: A revision is missing, half-written or of another head.
        """
        spec = self.recipe.teacher
        if spec is None or (spec.source is None and not self.workspace.teacher.is_dir()):
            return None
        teacher = open_teacher(self.recipe, self.workspace)
        teacher.attach(head=self.task.head, accelerator=None)
        return teacher

    def revisions(self, patterns: Sequence[str] = ()) -> list[int]:
        """Return the places of the teacher's revisions whose names match one of `patterns`; all without patterns.

        Raises:
            ValueError: The run has no teacher, or a pattern matches nothing.
        """
        if self.recipe.teacher is None:
            raise ValueError(f"{self.workspace.root} has no teacher to look at: its recipe names none")
        if self.teacher is None:
            raise ValueError(f"{self.workspace.root} has no teacher to look at; `hf-distill run` its recipe first")
        names = [revision.name for revision in self.teacher.revisions]
        for pattern in patterns:
            if not fnmatch.filter(names, pattern):
                raise ValueError(f"no revision of the teacher matches {pattern!r}; there are {', '.join(names)}")
        wanted = patterns or ["*"]
        return [place for place, name in enumerate(names) if any(fnmatch.fnmatchcase(name, p) for p in wanted)]

    def teacher_models(self, places: Sequence[int]) -> Iterator[RunModel]:
        """Yield the teacher at these revisions, one after the other."""
        assert self.teacher is not None
        for place, following in zip(places, [*places[1:], None], strict=True):
            self.teacher.enter(place)
            if following is not None:
                self.teacher.read_ahead(following)
            revision = self.teacher.revisions[place]
            yield RunModel(revision.name, revision.step, None, None, self.teacher.model.to(self.device))

    def student_cells(self) -> list[Cell]:
        """Return the students whose training is finished, in the order of the recipe."""
        return [c for c in cells_of(self.recipe) if finished_run(self.workspace.student(c.label, c.seed)) is not None]

    def students(self) -> Iterator[RunModel]:
        """Yield the students whose training is finished, in the order of the recipe."""
        for cell in self.student_cells():
            folder = self.workspace.student(cell.label, cell.seed)
            model = self.load_student(folder).to(self.device)
            yield RunModel(f"{cell.label}, seed {cell.seed}", None, cell.label, cell.seed, model)

    def load_student(self, folder: Path) -> Any:
        """Return a student, in eval mode; one that was exported as an adapter stands on its base.

        Raises:
            ValueError: Its weights are missing or cut off.
        """
        self.check_student(folder)
        return self.task.auto_class().from_pretrained(folder).eval()

    def check_student(self, folder: Path) -> None:
        """Refuse a student's folder that was cut off, by its files.

        Raises:
            ValueError: Its weights are missing or cut off.
        """
        problem = None if (folder / ADAPTER).is_file() else whole_checkpoint_problem(folder)
        if problem is not None:
            raise ValueError(f"{folder} is no whole student: {problem}. Remove the folder and run the recipe again")

    def models(self, which: Which, places: Sequence[int]) -> Iterator[RunModel]:
        """Yield the teacher at these revisions, the students, or both."""
        if which != "students" and self.teacher is not None:
            yield from self.teacher_models(places)
        if which != "teacher":
            yield from self.students()

    def logits(self, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
        """Return a model's logits for a batch, as the trainer asks for them, classes in the task's order.

        Shapes: (B, classes), (B, T, V), or (B, 2, T) for start and end of answers.
        """
        inputs = model_inputs(self.task.head, batch, model)
        accepted = inspect.signature(model.forward).parameters.keys() - TARGET_KEYS
        output = model(**{key: value for key, value in inputs.items() if key in accepted})
        logits = logits_of(output, batch.get("attention_mask"))
        names = self.data.description.get("labels")
        if names is None or not isinstance(model, PreTrainedModel):
            return logits
        return in_order(logits, order_of(names, label_names(model.config)))

    def rows(self, model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Return a model's logits and the labels at the positions that count.

        Shapes: (R, V), (R,).

        Raises:
            ValueError: The batch has no labels.
        """
        rows = select_rows(self.task.head, batch)
        if rows.labels_R is None:
            raise ValueError("the held-out data has no labels; analyses compare with them")
        return rows.of(self.logits(model, batch)), rows.labels_R


def _on(device: torch.device, batch: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}
