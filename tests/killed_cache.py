"""Writing a cache in a process of its own that kills itself with SIGKILL in the middle, for the resume tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import torch
from builders import examples
from cache_cases import Counted, make_walk

from hf_distill.cache.targets import Caching, cache_targets


class Killed(Counted):
    """A teacher whose process dies when it is asked once too often."""

    def __init__(self, folder: Path, last: int | None) -> None:
        super().__init__(folder)
        self.last = last

    def row_logits(self, inputs: Any, rows: Any) -> torch.Tensor:
        self._count_down()
        return super().row_logits(inputs, rows)

    def head_rows(self, inputs: Any, rows: Any) -> Any:
        self._count_down()
        return super().head_rows(inputs, rows)

    def _count_down(self) -> None:
        if self.last is not None:
            self.last -= 1
            if self.last < 0:
                os.kill(os.getpid(), signal.SIGKILL)


def write(folder: Path, teacher: Killed, codec: dict[str, Any], head: str) -> Caching:
    """Write what an n-shot student asks, 40 examples in steps of four, a shard for every step."""
    walk = make_walk(folder.with_suffix(".walk"), head, teacher, examples(head, count=40))
    return cache_targets(folder, [walk], codec=codec, shard_bytes=1)


def write_until_killed(folder: Path, teacher: Path, codec: dict[str, Any], head: str, last: int) -> None:
    write(folder, Killed(teacher, last), codec, head)
