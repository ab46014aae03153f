"""Recipes small enough for tests: parity of 2 out of 10 signs, which teacher and students learn in some 40 steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hf_distill.recipe import Recipe

SGD: dict[str, Any] = {
    "use_cpu": True,
    "disable_tqdm": True,
    "optim": "sgd",
    "learning_rate": 0.5,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 0.0,
    "per_device_train_batch_size": 50,
    "per_device_eval_batch_size": 250,
    "eval_strategy": "steps",
    "eval_steps": 20,
    "logging_steps": 20,
}


def parity_mapping(output_dir: Path, **changes: Any) -> dict[str, Any]:
    """Return the plain data of a recipe: labels, one-shot at temperature 0 and two-shot from a teacher trained first.

    Args:
        output_dir: Of the run.
        **changes: Top-level keys to replace; None takes one away.
    """
    mapping: dict[str, Any] = {
        "name": "tiny",
        "output_dir": str(output_dir),
        "task": {"name": "parity", "d": 10, "k": 2, "validation_examples": 250, "train_examples": 10_000},
        "teacher": {
            "train": {
                "model": {"architecture": "parity_mlp", "config": {"width": 64}},
                "training": {**SGD, "max_steps": 160, "save_steps": 20, "save_only_model": True},
            }
        },
        "student": {"model": {"architecture": "parity_mlp", "config": {"width": 32}}},
        "level": 0.99,
        "compare": {
            "labels": {"name": "labels"},
            "cold": {"name": "one_shot", "temperature": 0.0},
            "two_shot": {"name": "two_shot", "revision": "auto", "steps": 20},
        },
        "training": {**SGD, "max_steps": 80, "save_steps": 40},
        "report": {"enabled": False},
    }
    merged = {**mapping, **changes}
    return {key: value for key, value in merged.items() if value is not None}


def parity_recipe(output_dir: Path, **changes: Any) -> Recipe:
    """Return `parity_mapping` as a recipe."""
    return Recipe.from_dict(parity_mapping(output_dir, **changes))


def untaught(output_dir: Path, **changes: Any) -> Recipe:
    """Return a recipe without a teacher: one student, labels only."""
    fields: dict[str, Any] = {"teacher": None, "compare": None, "curriculum": {"name": "labels"}}
    return parity_recipe(output_dir, **{**fields, **changes})
