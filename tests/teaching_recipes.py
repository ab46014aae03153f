"""Tiny recipes with every way of teaching, on parity of 2 out of 10 signs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_recipes import SGD, parity_recipe

from hf_distill.recipe.recipe import Recipe

SHORT = {**SGD, "max_steps": 24, "eval_steps": 12, "save_steps": 12, "logging_steps": 12}


def mlp(width: int) -> dict[str, Any]:
    return {"architecture": "parity_mlp", "config": {"width": width}}


def trained(width: int, *, seed: int = 0, **more: Any) -> dict[str, Any]:
    """A training of 60 steps with checkpoints every 20: enough to learn from labels."""
    return {"model": mlp(width), "training": {**SGD, "max_steps": 60, "save_steps": 20}, "seed": seed, **more}


def assistant(width: int, *, name: str = "one_shot", **curriculum: Any) -> dict[str, Any]:
    return {"model": mlp(width), "training": SHORT, "curriculum": {"name": name, **curriculum}}


TEACHERS: dict[str, dict[str, Any]] = {
    "takd": {"train": trained(64), "assistants": [assistant(48), assistant(40)]},
    "ladder": {
        "train": trained(64),
        "assistants": [assistant(48), assistant(40, name="labels")],
        "route": {"examples": 200, "open": {"name": "linear", "start": 0, "stop": 3}},
    },
    "ensemble": {
        "ensemble": {
            "members": [{"train": trained(64)}, {"train": trained(48, seed=1)}],
            "weights": [2, 1],
        }
    },
    "pruned_mix": {"train": trained(64), "pruned": {"rate": 0.3}},
    "ema": {"self_teacher": {"name": "ema", "decay": 0.9}},
}


def teaching_recipe(folder: Path, kind: str, **changes: Any) -> Recipe:
    """Return a recipe whose students learn by half from their teacher and by half from labels."""
    return parity_recipe(
        folder,
        **{
            "teacher": TEACHERS[kind],
            "compare": None,
            "curriculum": {"name": "one_shot", "label_mix": 0.5},
            "training": SHORT,
            # Sources that change in training are made anew for every student.
            "seeds": [0, 1] if kind in ("ladder", "ema") else [0],
            **changes,
        },
    )
