"""How much of the disk a run's teacher may take: weights that this run downloaded and no longer needs are removed."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.file_download import repo_folder_name

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
        """Bytes of the files that are still there."""
        return sum(path.stat().st_size for path in self.files if path.exists())


class DiskBudget:
    """Keeps the weights that a run downloaded below a limit, by removing those of revisions it has left.

    Only weights are removed, and no content that another snapshot shares: configuration and tokenizer are small. What
    was in the cache before the run stays. A revision that is still needed stays too, so that a budget for less than
    two revisions is exceeded, with a warning.

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

    def _repository(self, revision: Revision) -> Path:
        return self._cache_dir / repo_folder_name(repo_id=revision.source, repo_type="model")

    def _weights(self, revision: Revision, folder: Path | None = None) -> list[Path]:
        if folder is None:
            folder = self._repository(revision) / "snapshots" / revision.commit / (revision.subfolder or "")
        if not folder.is_dir():
            return []
        return sorted(path for path in folder.iterdir() if path.name.endswith(_WEIGHTS) and path.exists())

    def _remove(self, held: _Held) -> None:
        # The client's `scan_cache_dir` refuses a repository one of whose references was never downloaded, which is
        # what pinning a sequence leaves. The order is its own: links first, then contents that no link leads to.
        snapshots = self._repository(held.revision) / "snapshots"
        contents = {_content_of(path) for path in held.files if path.exists()}
        size = held.size
        for path in held.files:
            path.unlink(missing_ok=True)
        shared = {_content_of(path) for path in snapshots.rglob("*") if path.is_symlink()}
        for content in contents - shared:
            content.unlink(missing_ok=True)
        logger.info("Removed %s from the cache, %.3f GB: no later stage needs it", held.revision, size / _GB)


def _content_of(path: Path) -> Path:
    """Return the file that a snapshot's link leads to, by one step: that may be a link to a shared store again."""
    return Path(os.path.abspath(path.parent / os.readlink(path))) if path.is_symlink() else path


def _key(revision: Revision) -> tuple[str, str | None]:
    return (revision.commit, revision.subfolder)
