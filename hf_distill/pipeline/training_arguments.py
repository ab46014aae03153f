"""From a recipe's `training:` block to a `ProgressiveDistillConfig`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from hf_distill.config import ProgressiveDistillConfig
from hf_distill.strict_dataclass import check_known_keys

QUIET_DEFAULTS: dict[str, Any] = {
    "report_to": "none",
    "logging_steps": 50,
    "save_total_limit": 2,
    "disable_tqdm": False,
}


def training_arguments(
    training: Mapping[str, Any], *, output_dir: Path, curriculum: Mapping[str, Any], seed: int, path: str
) -> ProgressiveDistillConfig:
    """Return the arguments of one student's (or the teacher's) training.

    Args:
        training: Keys of `ProgressiveDistillConfig`.
        output_dir: Folder of this training.
        curriculum: The curriculum's specification.
        seed: Seeds weights, data order and dropout.
        path: Where the block stands in the recipe, for error messages.

    Raises:
        ValueError: An unknown key, or a value that TrainingArguments refuses.
    """
    known = {field.name: field for field in dataclasses.fields(ProgressiveDistillConfig) if field.init}
    check_known_keys(training, known, path=path)
    values = {**QUIET_DEFAULTS, "dataloader_pin_memory": torch.accelerator.is_available(), **training}
    values.update(output_dir=str(output_dir), curriculum=dict(curriculum), seed=seed, data_seed=seed)
    try:
        return ProgressiveDistillConfig(**values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error
