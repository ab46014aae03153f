"""Reading cached targets: by revision and address of an example, from disk where they lie."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from hf_distill.cache.codecs import CODECS, Codec
from hf_distill.cache.format import MANIFEST, Manifest, again, check_files, check_names
from hf_distill.cache.index import Index
from hf_distill.cache.mapped import MappedTensors
from hf_distill.cache.output_head import load_head
from hf_distill.kernels.heads import Head

INDEX_KEY = "index"
_OPEN_FILES = 64
_REASONS = (
    "The likely reasons: masking or augmentation that is drawn anew in every epoch (only what is a function of the "
    "example's number and the seed can be cached), other data, another max_length or tokenizer, another batch size, "
    "number of processes or seed than the cache was written for, or a teacher whose stages have other lengths. Run "
    "`hf-distill cache` with this very recipe: it adds what is missing"
)


class CacheReader:
    """A folder of cached targets that is whole.

    Args:
        folder: The cache.
        verify: Compare every file with its checksum first; without it, files are looked at as they are read.
        show_progress: Draw a bar meanwhile.

    Raises:
        ValueError: The cache is unfinished, or a file of it is missing, cut short or damaged; named.
    """

    def __init__(self, folder: str | Path, *, verify: bool = True, show_progress: bool = True) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest.load(self.folder)
        if not self.manifest.complete:
            raise ValueError(
                f"the cached targets in {self.folder} are unfinished: {MANIFEST} says so. To go on, "
                f"{again(self.folder)}"
            )
        check_names(self.folder, self.manifest.files)
        if verify:
            self._verify(show_progress=show_progress)
        self.codec: Codec = CODECS.build(self.manifest.settings.codec, path=str(self.folder / MANIFEST))
        indexes = [file for file in self.manifest.files if file.path.startswith(f"{INDEX_KEY}/")]
        if len(indexes) != 1:
            raise ValueError(
                f"{self.folder / MANIFEST} names {len(indexes)} indexes instead of one; {again(self.folder)}"
            )
        self._index = Index(self.folder / indexes[0].path)
        strange = set(self._index.shards) - {shard.path for shard in self.manifest.shards}
        if strange:
            raise ValueError(f"{self.folder}: the index names {sorted(strange)[0]!r}, which {MANIFEST} does not know")
        self._open: OrderedDict[int, MappedTensors] = OrderedDict()

    def _verify(self, *, show_progress: bool) -> None:
        with tqdm(
            total=self.manifest.size,
            desc="Checking cached targets",
            unit="B",
            unit_scale=True,
            # A small cache is checked before a bar could be read.
            delay=1.0,
            disable=not show_progress,
        ) as bar:
            check_files(self.folder, self.manifest.files, on_bytes=bar.update)

    def check(self, commit: str, keys: Tensor, wanted: NDArray[np.bool_]) -> None:
        """Refuse a batch that is not all there, without reading it.

        Shapes: (N, 2), (N,).

        Raises:
            ValueError: A wanted example has no target of this revision.
        """
        self._check_found(commit, self._index.find(commit, keys.cpu().numpy()[wanted]).shard < 0)

    def read(self, commit: str, keys: Tensor, counts: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return what is kept of examples, row by row in their order, on the CPU.

        Args:
            commit: The revision whose targets are wanted.
            keys: Addresses of the examples.
            counts: Rows of each; one of an example without rows is not looked for.

        Shapes: (N, 2), (N,) -> tensors with Σ counts rows.

        Raises:
            ValueError: An example has no target of this revision, or another number of rows.
        """
        wanted = counts > 0
        keys_N2, counts = keys.cpu().numpy()[wanted], counts[wanted]
        places = self._index.find(commit, keys_N2)
        self._check_found(commit, places.shard < 0)
        wrong = int((places.rows != counts).sum())
        if wrong:
            raise ValueError(
                f"{self.folder}: {wrong} of {len(counts)} examples have another number of rows than the batch; the "
                "cache was not written for this head"
            )
        first = np.cumsum(counts) - counts
        rows = np.arange(int(counts.sum()), dtype=np.int64) + np.repeat(places.start - first, counts)
        return self._gather(np.repeat(places.shard, counts), rows)

    def _check_found(self, commit: str, missing: NDArray[np.bool_]) -> None:
        if not missing.any():
            return
        names = [str(revision["name"]) for revision in self.manifest.revisions if revision["commit"] == commit]
        known = commit in self._index.commits
        raise ValueError(
            f"{int(missing.sum())} of {len(missing)} examples of this batch have no target of the teacher revision "
            f"{names[0] if names else commit!r} in {self.folder}"
            f"{'' if known else ', which holds no target of this revision at all'}. {_REASONS}"
        )

    def _gather(self, shards: NDArray[np.int64], rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return rows of several shards in their order. Shapes: (R,), (R,) -> (R, ...) each."""
        numbers = np.unique(shards)
        if len(numbers) == 1:
            return self._rows(int(numbers[0]), rows)
        gathered: dict[str, Tensor] = {}
        for number in numbers:
            here = torch.from_numpy(np.flatnonzero(shards == number))
            for name, part in self._rows(int(number), rows[here.numpy()]).items():
                if name not in gathered:
                    gathered[name] = part.new_empty((len(rows), *part.shape[1:]))
                gathered[name][here] = part
        return gathered or self.empty()

    def _rows(self, number: int, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        file = self._shard(number)
        return {name: file.rows(name, rows) for name in file.names if name not in ("keys", "counts")}

    def _shard(self, number: int) -> MappedTensors:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        file = self._open[number] = MappedTensors(self.folder / self._index.shards[number])
        if len(self._open) > _OPEN_FILES:
            self._open.popitem(last=False)
        return file

    def empty(self) -> dict[str, Tensor]:
        """Return what is kept of no rows at all."""
        if not self._index.shards:
            return {}
        return self._rows(0, np.zeros(0, dtype=np.int64))

    def head(self, commit: str, *, device: torch.device | None = None) -> Head | None:
        """Return a revision's output layer on a device, where the codec keeps hidden states.

        Raises:
            ValueError: The file is not whole.
        """
        file = self.manifest.head_file(commit)
        return None if file is None else load_head(self.folder / file.path, device=device)

    def describe(self) -> Mapping[str, Any]:
        """Return what a run record says of the cache."""
        return {
            "codec": self.codec.title(),
            "examples": self.manifest.examples,
            "rows": self.manifest.rows,
            "bytes": self.manifest.size,
            "digest": self.manifest.digest(),
        }
