"""What a walk does: it brings a teacher's targets into a cache, or looks whether they are all there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_distill.cache.codecs import CODECS, Codec
from hf_distill.cache.key import example_keys
from hf_distill.cache.reader import CacheReader
from hf_distill.cache.writer import CacheWriter
from hf_distill.kernels.head_rows import HeadRows
from hf_distill.reading.signals import TARGET_KEYS, Head, Rows, select_rows
from hf_distill.teachers.base import TeacherSource


def counted_rows(rows: Rows, examples: int) -> Tensor:
    """Return how many rows of each example count. Shapes: returns (B,) int64."""
    if rows.mask is None:
        return torch.ones(examples, dtype=torch.int64)
    return rows.mask.reshape(examples, -1).sum(1)


def accepted(inputs: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Return what of a batch a teacher's forward is given: its arguments of these names, never the labels."""
    return {name: inputs[name] for name in inputs if name in names and name not in TARGET_KEYS}


class Filling:
    """Brings what a cache lacks.

    Args:
        writer: Of the cache.
        teacher: Attached.
        head: The kind of head.

    Attributes:
        visited: Examples seen so far on this process, by revision; each counted as often as it came.
    """

    def __init__(self, writer: CacheWriter, teacher: TeacherSource, *, head: Head) -> None:
        self.writer = writer
        self.teacher = teacher
        self.head = head
        self.codec: Codec = CODECS.build(writer.manifest.settings.codec, path="codec")
        self.visited: Counter[int] = Counter()

    def visit(self, inputs: Mapping[str, Any], rows: Rows, *, revision: int) -> None:
        """Send the examples that the cache lacks through the revision, and keep what it says."""
        commit = self.teacher.revisions[revision].commit
        keys = example_keys(accepted(inputs, self.teacher.forward_arguments), rows.mask)
        counts = counted_rows(rows, len(keys))
        self.visited[revision] += len(keys)
        mine = self.writer.claim(commit, keys, counts > 0)
        if not mine.any():
            return
        self.teacher.enter(revision)
        chosen = torch.from_numpy(np.flatnonzero(mine)).to(keys.device)
        if not mine.all():
            inputs = {
                name: value[chosen] if isinstance(value, Tensor) and len(value) == len(keys) else value
                for name, value in inputs.items()
            }
            rows = select_rows(self.head, inputs)
        columns = self.codec.encode(self._rows(commit, inputs, rows))
        self.writer.add(commit, keys[chosen], counts.to(chosen.device)[chosen], columns)

    def _rows(self, commit: str, inputs: Mapping[str, Any], rows: Rows) -> Tensor:
        """Return what the codec reads of the rows. Shapes: (R, V) or (R, H).

        Raises:
            ValueError: The codec keeps hidden states, and the teacher's head cannot be split off.
        """
        if self.codec.reads == "logits":
            return self.teacher.row_logits(inputs, rows)
        found = self.teacher.head_rows(inputs, rows)
        if not isinstance(found, HeadRows):
            raise ValueError(
                f"{type(self.teacher).__name__} gives no hidden states in front of a {self.head} head that could be "
                "kept; use the codec `logits` (for classes as small and exact) or `top_k`"
            )
        if not self.writer.has_head(commit):
            self.writer.put_head(commit, found)
        return found.hidden_RH


class Coverage:
    """Looks whether a cache holds all that a training will read, without reading it.

    Args:
        reader: Of the cache.
        commits: Of the teacher's revisions.
        inputs: Names that the teacher's forward accepts.

    Raises:
        ValueError: (on a visit) An example has no target.
    """

    def __init__(self, reader: CacheReader, *, commits: Sequence[str], inputs: Collection[str]) -> None:
        self.reader = reader
        self.commits = commits
        self.inputs = inputs

    def visit(self, inputs: Mapping[str, Any], rows: Rows, *, revision: int) -> None:
        """Look for the targets of a micro-batch."""
        keys = example_keys(accepted(inputs, self.inputs), rows.mask)
        counts = counted_rows(rows, len(keys))
        self.reader.check(self.commits[revision], keys, (counts > 0).cpu().numpy())
