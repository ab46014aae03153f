"""From a recipe's `training:` block to a `ProgressiveDistillConfig`."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from hf_distill.config import ProgressiveDistillConfig
from hf_distill.strict_dataclass import check_known_keys, convert
from hf_distill.tasks import Task

QUIET_DEFAULTS: dict[str, Any] = {
    "report_to": "none",
    "logging_steps": 50,
    "save_total_limit": 2,
    "disable_tqdm": False,
    # The filter logs 0 for a loss that is not finite; a run that has diverged should look like one.
    "logging_nan_inf_filter": False,
}
AT_LEAST_ONE = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "save_total_limit",
)
NOT_NEGATIVE = ("learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "dataloader_num_workers")
OF_A_LAUNCH = ("deepspeed", "fsdp", "fsdp_config", "torch_compile", "push_to_hub", "hub_model_id", "hub_strategy")
"""What splits or compiles models for a training, or publishes them, and decides no number."""
BY_EPOCHS = -1
"""What `max_steps` is where `num_train_epochs` says how long a training is."""


def training_arguments(
    training: Mapping[str, Any],
    *,
    task: Task,
    output_dir: Path,
    curriculum: Mapping[str, Any],
    seed: int,
    path: str,
) -> ProgressiveDistillConfig:
    """Return the arguments of one student's (or the teacher's) training.

    Args:
        training: Keys of the task's `config_class`.
        task: What is trained for.
        output_dir: Folder of this training.
        curriculum: The curriculum's specification.
        seed: Seeds weights, data order and dropout.
        path: Where the block stands in the recipe, for error messages.

    Raises:
        ValueError: An unknown key, a wrong type, a value that TrainingArguments refuses, or a package that is missing.
    """
    # Without `use_cpu`, two processes on a machine without an accelerator would silently be two runs of one.
    accelerated = torch.accelerator.is_available()
    values = {**QUIET_DEFAULTS, "use_cpu": not accelerated, "dataloader_pin_memory": accelerated}
    values |= task.training_defaults() | checked_training(training, task=task, path=path)
    values.update(output_dir=str(output_dir), curriculum=dict(curriculum), seed=seed, data_seed=seed)
    try:
        return task.config_class()(**values)
    except (ValueError, TypeError, ImportError) as error:
        raise ValueError(f"{path}: {error}") from error


@contextmanager
def best_metric_named(path: str) -> Iterator[None]:
    """Explain a `metric_for_best_model` that evaluations do not give, as the Trainer finds at the first of them.

    Args:
        path: Of the training block.

    Raises:
        ValueError: There is no such metric.
    """
    try:
        yield
    except KeyError as error:
        if "metric_for_best_model" not in str(error):
            raise
        raise ValueError(f"{path}.metric_for_best_model: {error.args[0]}") from error


def checked_training(training: Mapping[str, Any], *, task: Task, path: str) -> dict[str, Any]:
    """Return a training block with its values as the task's `config_class` wants them, without building one.

    Args:
        training: Keys of that class.
        task: What is trained for.
        path: Where the block stands in the recipe, for error messages.

    Raises:
        ValueError: An unknown key, or a value of the wrong type or range.
    """
    config_class = task.config_class()
    known = [field.name for field in dataclasses.fields(config_class) if field.init]
    check_known_keys(training, known, path=path)
    hints = typing.get_type_hints(config_class)
    return {key: _typed(key, value, hints[key], path=f"{path}.{key}") for key, value in training.items()}


def _typed(key: str, value: Any, kind: Any, *, path: str) -> Any:
    """Return a value as its annotation wants it; TrainingArguments takes text for a number and fails in training."""
    try:
        typed = convert(value, kind, path=path)
    except TypeError:  # An annotation with classes of transformers, which looks at the value itself.
        return value
    if typed is not None:
        _check_range(key, typed, path)
    # 100 is kept for a float: TrainingArguments tells steps from shares by the value.
    return value if typed == value else typed


def _check_range(key: str, value: Any, path: str) -> None:
    """Refuse numbers that TrainingArguments takes and that train nothing, or end in another error much later."""
    if key in AT_LEAST_ONE and value < 1:
        raise ValueError(f"{path}: expected at least 1, got {value}")
    if key in NOT_NEGATIVE and value < 0:
        raise ValueError(f"{path}: expected at least 0, got {value:g}")
    if key == "max_steps" and value < 1 and value != BY_EPOCHS:
        raise ValueError(f"{path}: expected at least 1, or {BY_EPOCHS} to go by num_train_epochs, got {value}")
    if key == "num_train_epochs" and value <= 0:
        raise ValueError(f"{path}: expected more than 0, got {value:g}")
    if key in ("save_steps", "eval_steps", "logging_steps") and value <= 0:
        raise ValueError(f"{path}: expected steps, or a share of the run below 1, but got {value:g}")
