"""Recipes with a downstream stage, small enough for tests: masked language models fine-tuned on other text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_recipes import SGD, text_recipe, write_text

from hf_distill.recipe.recipe import Recipe

QUICK: dict[str, Any] = {
    **SGD,
    "optim": "adamw_torch",
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 16,
    "max_steps": 4,
    "eval_steps": 2,
    "save_steps": 2,
    "disable_tqdm": True,
}


def other_text(folder: Path, **changes: Any) -> dict[str, Any]:
    """A block of `finetune:` on a folder of text, read by another split than in distillation."""
    task = {"name": "masked_lm", "data": {"path": str(folder)}, "max_length": 16, "validation_fraction": 0.3}
    return {"name": "other", "task": task, "training": QUICK, **changes}


def finetuned_recipe(root: Path, **changes: Any) -> Recipe:
    """A two-shot masked language model of one seed, fine-tuned on the same text with another split."""
    text = write_text(root / "text")
    fields = {"seeds": [0], "finetune": [other_text(text, **changes.pop("block", {}))]}
    return text_recipe(root / "run", text, "masked_lm", **{**fields, **changes})
