"""Writing cached targets: several processes, each its own shards, and nothing twice, not even after a kill."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather, pad_across_processes
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from hf_distill.cache.format import HEADS, MANIFEST, SHARDS, TEACHER, Manifest, Settings, StoredFile
from hf_distill.cache.index import ShardKeys, write_index
from hf_distill.cache.key import KEY_BYTES
from hf_distill.cache.mapped import SUFFIX, MappedTensors, write_tensors
from hf_distill.cache.output_head import save_head
from hf_distill.cache.reader import INDEX_KEY
from hf_distill.kernels.head_rows import HeadRows
from hf_distill.teachers.weight_files import file_sha256

logger = logging.getLogger(__name__)


@dataclass
class _Waiting:
    """Targets of one revision that are not on disk yet."""

    keys: list[Tensor] = field(default_factory=list)
    counts: list[Tensor] = field(default_factory=list)
    columns: list[Mapping[str, Tensor]] = field(default_factory=list)


class CacheWriter:
    """A folder of cached targets, to write into.

    Every process makes one with the same arguments. What an earlier session left whole is kept; damaged files are
    removed, so that their examples are written again.

    Args:
        folder: The cache; made where it does not exist.
        settings: What the targets are.
        revisions: The teacher's, as its manifest lists them.
        shard_bytes: A shard is written once so much waits in memory ...
        shard_seconds: ... or so long after the last one: this much work is lost at most when the process is killed.

    Raises:
        ValueError: The folder holds targets of another kind or teacher, or something else.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        settings: Settings,
        revisions: Sequence[Mapping[str, Any]],
        shard_bytes: int = 256 * 2**20,
        shard_seconds: float = 120.0,
    ) -> None:
        self.folder = Path(folder)
        self.manifest = Manifest(settings=settings, revisions=[dict(revision) for revision in revisions])
        self.shard_bytes = shard_bytes
        self.shard_seconds = shard_seconds
        self.forwarded = 0
        self._state = PartialState()
        self._waiting: dict[str, _Waiting] = {}
        self._waiting_bytes = 0
        self._written_at = time.monotonic()
        self._before = self.manifest
        self._claim_folder()
        self._keep_whole_files()
        self._known = {commit: set[bytes]() for commit in self._commits}
        for shard in self._shards():
            self._known.setdefault(shard.commit, set()).update(_as_bytes(torch.from_numpy(shard.keys)))
        self._heads = {MappedTensors(path).metadata["commit"] for path in _files(self.folder / HEADS)}

    @property
    def _commits(self) -> list[str]:
        return [revision["commit"] for revision in self.manifest.revisions]

    @property
    def walks(self) -> dict[str, int]:
        """The student runs whose examples were all here before, and still are, as `Manifest.walks` lists them."""
        there = all((self.folder / file.path).is_file() for file in self._before.files)
        return dict(self._before.walks) if there else {}

    @property
    def known(self) -> int:
        """How many targets there are, waiting ones and those of other processes included."""
        return sum(len(keys) for keys in self._known.values())

    def _claim_folder(self) -> None:
        """Refuse a folder of something else, and note what a new one will hold; an old list stays until the end."""
        with self._state.main_process_first():
            if (self.folder / MANIFEST).exists():
                before = Manifest.load(self.folder)
                self._refuse_others(before)
                self._before = before
            elif self.folder.exists() and any(self.folder.iterdir()):
                raise ValueError(
                    f"{self.folder} is not empty and holds no cached targets; choose another folder with --output"
                )
            elif self._state.is_main_process:
                for part in (SHARDS, HEADS, INDEX_KEY, TEACHER):
                    (self.folder / part).mkdir(parents=True, exist_ok=True)
                self.manifest.save(self.folder)

    def _refuse_others(self, before: Manifest) -> None:
        ours, theirs = vars(self.manifest.settings), vars(before.settings)
        other = [name for name in ours if ours[name] != theirs[name]]
        if other:
            name = other[0]
            raise ValueError(
                f"{self.folder} holds cached targets of another kind: {name} is {theirs[name]} there and {ours[name]} "
                "here; choose another folder with --output, or delete it"
            )
        was, now = ([(r["name"], r["commit"]) for r in side.revisions] for side in (before, self.manifest))
        if was != now:
            gone = next((f"{name} ({commit})" for name, commit in was if (name, commit) not in now), "no others")
            new = next((f"{name} ({commit})" for name, commit in now if (name, commit) not in was), "no others")
            raise ValueError(
                f"{self.folder} holds targets of another sequence of teacher revisions: there it has {gone}, now "
                f"{new}. Choose another folder with --output, or delete it"
            )

    def _keep_whole_files(self) -> None:
        """Remove what a killed process left half-written and what was damaged since; each process sees to a share."""
        files = [*_files(self.folder / SHARDS), *_files(self.folder / HEADS)]
        mine = files[self._state.process_index :: self._state.num_processes]
        with ThreadPoolExecutor(max_workers=4) as pool:
            checked = pool.map(lambda path: file_sha256(path) == path.stem, mine)
            quiet = not self._state.is_main_process
            whole = list(tqdm(checked, total=len(mine), desc="Checking what is there", delay=1.0, disable=quiet))
        for path, is_whole in zip(mine, whole, strict=True):
            if not is_whole:
                logger.warning("%s is damaged; its examples go through the teacher again", path)
                path.unlink()
        if self._state.is_main_process:
            for leftover in self.folder.glob("*/.*.tmp"):
                leftover.unlink()
        self._state.wait_for_everyone()

    def _shards(self) -> Iterable[ShardKeys]:
        for path in _files(self.folder / SHARDS):
            file = MappedTensors(path)
            keys, counts = (np.array(file.array(name)) for name in ("keys", "counts"))
            yield ShardKeys(f"{SHARDS}/{path.name}", file.metadata["commit"], keys, counts.astype(np.int64))

    def claim(self, commit: str, keys: Tensor, wanted: Tensor) -> NDArray[np.bool_]:
        """Return which examples this process is to bring; called by all processes for their batches of one moment.

        An example belongs to the first process that meets it, and only once.

        Args:
            commit: The revision.
            keys: Addresses of the examples.
            wanted: Whether an example has rows at all.

        Shapes: (B, 2), (B,) -> (B,).
        """
        mine = np.zeros(len(keys), dtype=bool)
        known = self._known.setdefault(commit, set())
        for rank, asked in enumerate(self._of_everyone(keys, wanted)):
            flags = asked[:, 2].tolist()
            for place, key in enumerate(_as_bytes(asked[:, :2])):
                if flags[place] and key not in known:
                    known.add(key)
                    if rank == self._state.process_index:
                        mine[place] = True
        return mine

    def _of_everyone(self, keys: Tensor, wanted: Tensor) -> list[Tensor]:
        asked = torch.cat([keys, wanted.to(keys.device, torch.int64)[:, None]], dim=1)
        if self._state.num_processes == 1:
            return [asked.cpu()]
        padded = pad_across_processes(asked.to(self._state.device), dim=0)
        return list(gather(padded).cpu().chunk(self._state.num_processes))

    def add(self, commit: str, keys: Tensor, counts: Tensor, columns: Mapping[str, Tensor]) -> None:
        """Keep the targets of examples that `claim` gave to this process.

        Args:
            commit: The revision.
            keys: Addresses of the examples.
            counts: Rows of each.
            columns: What is kept of their rows, in order.

        Shapes: (N, 2), (N,), tensors with Σ counts rows.
        """
        waiting = self._waiting.setdefault(commit, _Waiting())
        waiting.keys.append(keys.cpu())
        waiting.counts.append(counts.cpu().to(torch.int32))
        waiting.columns.append(columns)
        self.forwarded += len(keys)
        self._waiting_bytes += len(keys) * (KEY_BYTES + 4) + sum(column.nbytes for column in columns.values())
        late = time.monotonic() - self._written_at >= self.shard_seconds
        if late or self._waiting_bytes >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what waits: a shard for each revision."""
        for commit, waiting in self._waiting.items():
            tensors = {"keys": torch.cat(waiting.keys), "counts": torch.cat(waiting.counts)}
            for name in waiting.columns[0]:
                tensors[name] = torch.cat([columns[name] for columns in waiting.columns])
            write_tensors(self.folder / SHARDS, tensors, metadata={"commit": commit})
        self._waiting, self._waiting_bytes, self._written_at = {}, 0, time.monotonic()

    def has_head(self, commit: str) -> bool:
        """Whether the output layer of a revision is there."""
        return commit in self._heads

    def put_head(self, commit: str, rows: HeadRows) -> None:
        """Keep the output layer of a revision, given with any rows in front of it."""
        save_head(self.folder / HEADS, rows, commit=commit)
        self._heads.add(commit)

    def finish(
        self,
        *,
        walks: Mapping[str, int] | None = None,
        data: Mapping[str, Any] | None = None,
        teacher: Mapping[str, Any] | None = None,
        recipe: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Write what waits, the index over all shards, and the list that makes the cache whole.

        Args:
            walks: The student runs whose examples are all here, beside those of before.
            data: What `Manifest.data` holds.
            teacher: What `Manifest.teacher` holds.
            recipe: What `Manifest.recipe` holds.
        """
        self.flush()
        self._state.wait_for_everyone()
        if self._state.is_main_process:
            shards = list(self._shards())
            index = write_index(self.folder / INDEX_KEY, shards)
            files = [_described(self.folder, f"{INDEX_KEY}/{index.name}")]
            files += [_of_shard(self.folder, shard) for shard in shards]
            files += [_of_head(self.folder, path) for path in _files(self.folder / HEADS)]
            others = sorted(path.name for path in (self.folder / TEACHER).iterdir() if path.is_file())
            files += [_described(self.folder, f"{TEACHER}/{name}") for name in others]
            self.manifest.with_files(
                files,
                complete=True,
                walks=dict(sorted({**self.walks, **(walks or {})}.items())),
                data=dict(data or {}),
                teacher=dict(teacher or {}),
                recipe=None if recipe is None else dict(recipe),
            ).save(self.folder)
            for path in _files(self.folder / INDEX_KEY):
                if path.name != index.name:
                    path.unlink()
        self._state.wait_for_everyone()
        return Manifest.load(self.folder)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))


def _as_bytes(keys: Tensor) -> list[bytes]:
    octets = keys.contiguous().numpy().tobytes()
    return [octets[at : at + KEY_BYTES] for at in range(0, len(octets), KEY_BYTES)]


def _described(folder: Path, path: str) -> StoredFile:
    """Describe a small file by reading it."""
    content = (folder / path).read_bytes()
    return StoredFile(path=path, sha256=hashlib.sha256(content).hexdigest(), size=len(content))


def _of_shard(folder: Path, shard: ShardKeys) -> StoredFile:
    path = folder / shard.path
    return StoredFile(
        path=shard.path,
        sha256=path.stem,
        size=path.stat().st_size,
        commit=shard.commit,
        examples=len(shard.keys),
        rows=int(shard.counts.sum()),
    )


def _of_head(folder: Path, path: Path) -> StoredFile:
    commit = MappedTensors(path).metadata["commit"]
    return StoredFile(
        path=path.relative_to(folder).as_posix(), sha256=path.stem, size=path.stat().st_size, commit=commit
    )
