"""A recipe's run in a process of its own that kills itself with SIGKILL at a given batch, for the resume tests."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from teaching_recipes import SHORT, TEACHERS, teaching_recipe
from tiny_recipes import SGD, parity_recipe

from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.tasks import TASKS
from hf_distill.tasks.base import TaskData
from hf_distill.tasks.parity import Parity


@TASKS.register("counted_parity")
@dataclass(kw_only=True)
class CountedParity(Parity):
    """Parity that counts its batches, in training, evaluation and scoring, and ends the process at one of them."""

    batches: ClassVar[int] = 0
    kill_at: ClassVar[int | None] = None

    def prepare(self, *, seed: int, cache_dir: Path) -> TaskData:
        data = super().prepare(seed=seed, cache_dir=cache_dir)
        return replace(data, collator=counted(data.collator))


def counted(collate: Callable[[list[Any]], dict[str, torch.Tensor]]) -> Callable[[list[Any]], dict[str, torch.Tensor]]:
    def collator(items: list[Any]) -> dict[str, torch.Tensor]:
        CountedParity.batches += 1
        if CountedParity.batches == CountedParity.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return collate(items)

    return collator


def adam_recipe(folder: Path) -> Recipe:
    """Return a recipe whose students have an optimizer with state, a decaying rate and shuffled data to resume."""
    training = {**SGD, "optim": "adamw_torch", "learning_rate": 5e-3, "lr_scheduler_type": "cosine"}
    return parity_recipe(
        folder,
        task={"name": "counted_parity", "d": 10, "k": 2, "validation_examples": 250, "train_examples": 1000},
        training={**training, "max_steps": 60, "save_steps": 20},
        compare={
            "two_shot": {"name": "two_shot", "revision": "auto", "steps": 25},
            "adaptive": {"name": "adaptive", "revisions": ["auto"], "level": 0.65},
        },
    )


def run_until_batch(folder: Path, batch: int) -> None:
    CountedParity.kill_at = batch
    run_recipe(adam_recipe(folder))


def counted_teaching(folder: Path, kind: str) -> Recipe:
    """Return a tiny recipe of a way of teaching, in which everything that is trained has an optimizer with state."""
    adam = {"optim": "adamw_torch", "learning_rate": 5e-3, "lr_scheduler_type": "cosine"}
    teacher = json.loads(json.dumps(TEACHERS[kind]))
    members = teacher.get("ensemble", {}).get("members", [teacher])
    trainings = [one["train"] for one in members if "train" in one] + teacher.get("assistants", [])
    for one in trainings:
        one["training"] |= adam
    task = {"name": "counted_parity", "d": 10, "k": 2, "validation_examples": 250, "train_examples": 1000}
    training = {**SHORT, **adam, "save_steps": 6}
    return teaching_recipe(folder, kind, teacher=teacher, task=task, training=training)


def teach_until_batch(folder: Path, kind: str, batch: int) -> None:
    CountedParity.kill_at = batch
    run_recipe(counted_teaching(folder, kind))
