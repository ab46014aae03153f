"""How much of the disk a run's teacher may take: weights that this run downloaded and no longer needs are removed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, scan_cache_dir

from hf_distill.teachers.revision_spec import Revision

logger = logging.getLogger(__name__)

_WEIGHTS = (".safetensors", ".bin")
_GB = 10**9


@dataclass(frozen=True)
class _Held:
    """Weights that this run downloaded."""

    revision: Revision
    files: tuple[Path, ...]

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.files if path.exists())


class DiskBudget:
    """Keeps the weights that a run downloaded below a limit, by removing those of revisions it has left.

    Only weights are removed, through the Hub client and never a file that another snapshot shares: configuration and
    tokenizer are small and often shared. What was in the cache before the run stays. A revision that is still needed
    stays too, so that a budget for less than two revisions is exceeded, with a warning.

    Args:
        max_gb: Limit in 10⁹ bytes; None for no limit.
        cache_dir: The Hub cache to use; None means the client's own.
    """

    def __init__(self, max_gb: float | None, *, cache_dir: str | Path | None = None) -> None:
        if max_gb is not None and not max_gb > 0:
            raise ValueError(f"max_cached_gb: expected a number above 0, or null for no limit, got {max_gb}")
        self._limit = None if max_gb is None else max_gb * _GB
        self._cache_dir = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
        self._held: dict[tuple[str, str | None], _Held] = {}
        self._needed: set[tuple[str, str | None]] | None = None
        # One download or removal at a time: a file that both share must not go between being found and being linked.
        self._lock = threading.RLock()
        self._warned = False

    def need(self, revisions: Iterable[Revision]) -> None:
        """Say which revisions training still needs; the others may go. Before the first call all are needed."""
        self._needed = {_key(revision) for revision in revisions}
        if self._limit is not None and self._used() > self._limit:
            threading.Thread(target=self.make_room, name="disk budget", daemon=True).start()

    def fetch(self, revision: Revision, get: Callable[[], Path], *, size: Callable[[], int]) -> Path:
        """Return the folder that `get` downloads, after making room for it.

        Args:
            revision: What is downloaded.
            get: Downloads it, or finds it in the cache.
            size: Tells how many bytes will be downloaded; called only where there is a limit.
        """
        if self._limit is None or revision.revision is None or revision.folder is not None:
            return get()
        with self._lock:
            self.make_room(size())
            before = set(self._weights(revision))
            folder = get()
            arrived = [path for path in self._weights(revision, folder) if path not in before]
            if arrived:
                self._held[_key(revision)] = _Held(revision, tuple(arrived))
        return folder

    def make_room(self, coming: int = 0) -> None:
        """Remove weights that are not needed, those left first, until `coming` bytes more fit."""
        if self._limit is None:
            return
        with self._lock:
            for key, held in list(self._held.items()):
                if self._used() + coming <= self._limit:
                    return
                if self._needed is not None and key not in self._needed:
                    self._remove(held)
                    del self._held[key]
            used = self._used() + coming
        if used > self._limit and not self._warned:
            self._warned = True
            logger.warning(
                "The revisions in use take %.2f GB, more than max_cached_gb=%.2f; none that is needed is removed",
                used / _GB,
                self._limit / _GB,
            )

    def _used(self) -> int:
        return sum(held.size for held in list(self._held.values()))

    def _weights(self, revision: Revision, folder: Path | None = None) -> list[Path]:
        if folder is None:
            name = f"models--{revision.source.replace('/', '--')}"
            folder = self._cache_dir / name / "snapshots" / revision.commit / (revision.subfolder or "")
        if not folder.is_dir():
            return []
        return sorted(path for path in folder.iterdir() if path.name.endswith(_WEIGHTS) and path.exists())

    def _remove(self, held: _Held) -> None:
        cache = scan_cache_dir(self._cache_dir)
        wanted = {path.absolute() for path in held.files}
        files = [
            file
            for repository in cache.repos
            for cached in repository.revisions
            if cached.commit_hash == held.revision.commit
            for file in cached.files
            if file.file_path.absolute() in wanted
        ]
        plan = cache.delete_files(*files)
        plan.execute()
        logger.info(
            "Removed %s from the cache, %s: no later stage needs it", held.revision, plan.expected_freed_size_str
        )


def _key(revision: Revision) -> tuple[str, str | None]:
    return (revision.commit, revision.subfolder)
