"""What a task is: data sets, collator, metrics and how its models are built; all that the package asks of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    BaseImageProcessor,
    EvalPrediction,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hf_distill.config import ProgressiveDistillConfig
from hf_distill.reading.signals import Head
from hf_distill.registry import Registry
from hf_distill.tasks.model_building import AutoClass, build_model

if TYPE_CHECKING:
    from hf_distill.trainer import ProgressiveDistillTrainer


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Further held-out examples, looked at once, when a training has ended.

    Attributes:
        examples: Map-style data set, as `TaskData.validation`.
        compute_metrics: As `TaskData.compute_metrics`, for these examples.
        group: Sets of one group are also reported by the mean of each metric over them, `<metric>_mean_<group>`.
    """

    examples: Dataset[Any]
    compute_metrics: Callable[[EvalPrediction], dict[str, float]]
    group: str | None = None


@dataclass(kw_only=True)
class TaskData:
    """Everything a Trainer needs to know of the data.

    Attributes:
        train: Map-style data set; what item i holds depends on i and the seed only, so a resumed run sees the same.
        validation: Map-style data set, the same for every training seed.
        collator: Makes a batch of tensors from what the data sets hand out.
        processing_class: The tokenizer or image processor that is saved with a student, or None where there is none.
        compute_metrics: From predictions and labels to plain numbers, without the Trainer's "eval_" prefix.
        preprocess_logits_for_metrics: Shrinks logits on the device before they are gathered, or None.
        fingerprint: Hash of the examples and of what was done to them; it does not depend on the training seed.
        description: For reports and cards, ready for JSON: "datasets" (Hub ids), "source", "preprocessing",
            "train_rows", "validation_rows" and what else the task knows.
        further: More held-out sets by name, for the end of a training; their metrics are `<metric>_<name>`.
    """

    train: Dataset[Any]
    validation: Dataset[Any]
    collator: Callable[[list[Any]], dict[str, Tensor]]
    processing_class: PreTrainedTokenizerBase | BaseImageProcessor | None = None
    compute_metrics: Callable[[EvalPrediction], dict[str, float]]
    preprocess_logits_for_metrics: Callable[[Any, Tensor], Any] | None = None
    fingerprint: str
    description: dict[str, Any] = field(default_factory=dict)
    further: dict[str, HeldOut] = field(default_factory=dict)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer, where models read text."""
        beside = self.processing_class
        return beside if isinstance(beside, PreTrainedTokenizerBase) else None

    def for_trainer(self) -> dict[str, Any]:
        """Return the data and what goes with it as keyword arguments of a Trainer."""
        return {
            "train_dataset": self.train,
            "eval_dataset": self.validation,
            "data_collator": self.collator,
            "processing_class": self.processing_class,
            "compute_metrics": self.compute_metrics,
            "preprocess_logits_for_metrics": self.preprocess_logits_for_metrics,
        }


@dataclass(kw_only=True)
class Task(ABC):
    """One task, one file: a dataclass whose fields are the keys under `task:` in a recipe.

    `head`, `metric` and `greater_is_better` are class variables, or properties where they depend on the fields.
    """

    @property
    @abstractmethod
    def head(self) -> Head:
        """What the models predict."""

    @property
    @abstractmethod
    def metric(self) -> str:
        """The key of `compute_metrics` that curves and tables show."""

    @property
    @abstractmethod
    def greater_is_better(self) -> bool:
        """Whether a larger `metric` is a better one."""

    @abstractmethod
    def prepare(self, *, seed: int, cache_dir: Path) -> TaskData:
        """Make the data sets.

        Args:
            seed: The training seed: decides what is drawn in training, never what is held out.
            cache_dir: Folder for what is worth keeping (a trained tokenizer); shared by all runs of a recipe.

        Raises:
            ValueError: The data is missing, empty or too short.
        """

    @abstractmethod
    def auto_class(self) -> AutoClass:
        """Return the `AutoModelFor...` that loads teachers and students of this task."""

    @abstractmethod
    def config_defaults(
        self, config_class: type[PreTrainedConfig], given: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """Return what the task knows of a model's config, for keys that the recipe leaves open.

        Keys that the config class does not define are dropped by the caller.

        Args:
            config_class: The class the config will be made from.
            given: The keys the recipe sets.
            data: What `prepare` returned.
        """

    @abstractmethod
    def check_model(self, model: PreTrainedModel, data: TaskData) -> None:
        """Refuse a model that cannot read the data or answer the task.

        Raises:
            ValueError: Inputs, vocabulary, positions or labels do not fit.
        """

    def trainer_class(self) -> type[ProgressiveDistillTrainer]:
        """Return the trainer that trains teachers and students of this task."""
        from hf_distill.trainer import ProgressiveDistillTrainer

        return ProgressiveDistillTrainer

    def config_class(self) -> type[ProgressiveDistillConfig]:
        """Return the class of the training arguments: what may stand under `training:` in a recipe."""
        return ProgressiveDistillConfig

    def training_defaults(self) -> dict[str, Any]:
        """Return training arguments for where a recipe does not say; none by default."""
        return {}

    def label_config(self, data: TaskData) -> dict[str, Any]:
        """Return how a config names the answers, for pretrained weights that do not name theirs; nothing by default.

        Args:
            data: What `prepare` returned.
        """
        return {}

    def build_model(self, spec: Mapping[str, Any], data: TaskData, **loading: Any) -> PreTrainedModel:
        """Build a student or a teacher. New weights are drawn from torch's global generator: seed it first.

        Args:
            spec: `{"architecture": "bert", "config": {...}}`, where vocabulary, special ids and labels are filled in,
                or `{"pretrained": id-or-folder, "revision": ...}`.
            data: What `prepare` returned.
            **loading: `loading` and `on_new` of `model_building.build_model`.

        Raises:
            ValueError: Unknown architecture or config key, or a model that does not fit the task.
        """

        def defaults(config_class: type[PreTrainedConfig], given: Mapping[str, Any]) -> dict[str, Any]:
            return self.config_defaults(config_class, given, data)

        labels = self.label_config(data)
        model = build_model(spec, auto_class=self.auto_class(), defaults=defaults, labels=labels, **loading)
        self.check_model(model, data)
        return model


TASKS: Registry[Task] = Registry("task", Task)
