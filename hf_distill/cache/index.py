"""Where each target lies: addresses sorted within each revision, searched on disk without being loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from hf_distill.cache.mapped import MappedTensors, Written, write_tensors

Ints = NDArray[np.int64]


class Places(NamedTuple):
    """Where the targets of examples lie; −1 in `shard` for an example that is not there.

    Shapes: (N,) each.
    """

    shard: Ints
    start: Ints
    rows: Ints


class ShardKeys(NamedTuple):
    """What one shard adds to the index.

    Attributes:
        path: Of the shard, relative to the cache.
        commit: The revision whose targets it holds.
        keys: Addresses of its examples in the order of their rows, (N, 2).
        counts: Rows of each, (N,).
    """

    path: str
    commit: str
    keys: Ints
    counts: Ints


def write_index(folder: Path, shards: Sequence[ShardKeys]) -> Written:
    """Sort the addresses of all shards, and write where each one's rows lie.

    An example that two shards hold (one of them left by a killed process) is found in the first of them.
    """
    commits = sorted({shard.commit for shard in shards})
    parts: dict[str, list[Ints]] = {name: [] for name in ("high", "low", "shard", "start", "count")}
    offsets = [0]
    for commit in commits:
        columns = _of_revision([(number, shard) for number, shard in enumerate(shards) if shard.commit == commit])
        for name, column in columns.items():
            parts[name].append(column)
        offsets.append(offsets[-1] + len(columns["high"]))
    empty = np.zeros(0, dtype=np.int64)
    tensors = {name: torch.from_numpy(np.concatenate([empty, *columns])) for name, columns in parts.items()}
    tensors |= {name: tensors[name].to(torch.int32) for name in ("shard", "count")}
    tensors["offsets"] = torch.tensor(offsets)
    metadata = {"commits": json.dumps(commits), "shards": json.dumps([shard.path for shard in shards])}
    return write_tensors(folder, tensors, metadata=metadata)


def _of_revision(shards: Iterable[tuple[int, ShardKeys]]) -> Mapping[str, Ints]:
    shards = list(shards)
    keys = np.concatenate([shard.keys for _, shard in shards])
    counts = np.concatenate([shard.counts for _, shard in shards])
    numbers = np.concatenate([np.full(len(shard.keys), number) for number, shard in shards])
    starts = np.concatenate([np.cumsum(shard.counts) - shard.counts for _, shard in shards])
    order = np.lexsort((numbers, keys[:, 1], keys[:, 0]))
    ordered = keys[order]
    first = np.ones(len(order), dtype=bool)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    order = order[first]
    columns = {"high": keys[:, 0], "low": keys[:, 1], "shard": numbers, "start": starts, "count": counts}
    return {name: column[order].astype(np.int64) for name, column in columns.items()}


class Index:
    """The index of a cache.

    Args:
        path: The file.

    Raises:
        ValueError: It is not whole.
    """

    def __init__(self, path: Path) -> None:
        file = MappedTensors(path)
        self.shards: list[str] = json.loads(file.metadata["shards"])
        self.commits: list[str] = json.loads(file.metadata["commits"])
        self._columns = {name: file.array(name) for name in ("high", "low", "shard", "start", "count")}
        self._offsets = np.array(file.array("offsets"))

    def __len__(self) -> int:
        return int(self._offsets[-1])

    def find(self, commit: str, keys: Ints) -> Places:
        """Return where the targets of examples lie for one revision.

        Shapes: (N, 2) addresses -> (N,) each.
        """
        missing = np.full(len(keys), -1, dtype=np.int64)
        if commit not in self.commits or not len(keys):
            return Places(missing, missing.copy(), missing.copy())
        place = self.commits.index(commit)
        begin, end = self._offsets[place], self._offsets[place + 1]
        high, low = self._columns["high"][begin:end], self._columns["low"][begin:end]
        at = np.searchsorted(high, keys[:, 0])
        found = np.zeros(len(keys), dtype=bool)
        # Addresses with one high half stand side by side: there is hardly ever a second one.
        looking = at < len(high)
        while looking.any():
            looking[looking] = high[at[looking]] == keys[looking, 0]
            hit = looking.copy()
            hit[looking] = low[at[looking]] == keys[looking, 1]
            found |= hit
            looking &= ~hit
            at[looking] += 1
            looking &= at < len(high)
        columns = [missing.copy() for _ in range(3)]
        for column, name in zip(columns, ("shard", "start", "count"), strict=True):
            column[found] = self._columns[name][begin:end][at[found]]
        return Places(*columns)
