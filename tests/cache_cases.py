"""Caches of tiny teachers that tests write, read and damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from builders import distill_config, examples, save_teacher_run, tiny_model

from hf_distill.cache.targets import Caching, cache_targets
from hf_distill.cache.walk import TargetWalk
from hf_distill.teachers import TeacherSequence
from hf_distill.teachers.base import TeacherSource

N_SHOT = {"name": "n_shot", "steps": 3}
LOGITS = {"name": "logits"}
FLOAT_HIDDEN = {"name": "hidden", "dtype": "float32"}
STEPS = 10


class Counted(TeacherSequence):
    """A teacher sequence that remembers which revision saw how many examples."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.seen: dict[str, int] = {}

    def row_logits(self, inputs: Any, rows: Any) -> torch.Tensor:
        self._count(inputs)
        return super().row_logits(inputs, rows)

    def head_rows(self, inputs: Any, rows: Any) -> Any:
        self._count(inputs)
        return super().head_rows(inputs, rows)

    def _count(self, inputs: Any) -> None:
        assert self.current is not None
        name = self.revisions[self.current].name
        self.seen[name] = self.seen.get(name, 0) + len(next(iter(inputs.values())))


class Case(NamedTuple):
    """A teacher's checkpoints, the data and a cache of what an n-shot student asks."""

    teacher: Path
    data: list[dict[str, torch.Tensor]]
    cache: Path
    caching: Caching


def settings(**overrides: Any) -> dict[str, Any]:
    """Arguments of the student's training: 16 examples, four a step."""
    return {"max_steps": STEPS, "curriculum": N_SHOT, "per_device_train_batch_size": 4, **overrides}


def make_walk(
    folder: Path,
    head: str,
    teacher: TeacherSource,
    data: Any,
    *,
    fingerprint: str | None = None,
    **overrides: Any,
) -> TargetWalk:
    """Make the walk of a tiny student's training."""
    return TargetWalk(
        model=tiny_model(head, seed=1),
        teacher=teacher,
        args=distill_config(folder, **settings(**overrides)),
        train_dataset=data,
        eval_dataset=[data[place] for place in range(4)],
        fingerprint=fingerprint,
    )


def write_cache(folder: Path, head: str, codec: dict[str, Any], *, count: int = 16, **overrides: Any) -> Case:
    """Write a cache of what a tiny student asks its three revisions."""
    teacher = save_teacher_run(folder / "teacher", head)
    data = examples(head, count=count)
    walk = make_walk(folder / "walk", head, TeacherSequence(str(teacher)), data, **overrides)
    return Case(teacher, data, folder / "cache", cache_targets(folder / "cache", [walk], codec=codec))
