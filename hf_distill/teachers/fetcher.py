"""Getting a revision's folder the same way everywhere in a run: token, cache, back-off, disk budget."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from hf_distill.teachers.disk_budget import DiskBudget
from hf_distill.teachers.hub_download import DOWNLOADING, download_bytes
from hf_distill.teachers.hub_repository import ModelRepository
from hf_distill.teachers.retry import Backoff, HubUnavailable
from hf_distill.teachers.revisions import Revision, folder_of

OnDownloadFailure = Literal["wait", "stop"]


class Fetcher:
    """Gets folders of pinned revisions, downloading where the cache lacks them.

    Args:
        token: For private repositories; appears in no message.
        cache_dir: The Hub cache to use; None means the client's own.
        allow_pickled_weights: Accept a revision that has no safetensors.
        on_download_failure: `stop` gives up after the tries of `backoff`; `wait` goes on trying, with a line in the
            log each time.
        max_cached_gb: Most that the weights downloaded by this run may take, in 10⁹ bytes; None for no limit.
        backoff: How often to try, and how long to wait between two tries.

    Raises:
        ValueError: An option has no such value.
    """

    def __init__(
        self,
        *,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        allow_pickled_weights: bool = False,
        on_download_failure: OnDownloadFailure = "stop",
        max_cached_gb: float | None = None,
        backoff: Backoff = DOWNLOADING,
    ) -> None:
        if on_download_failure not in get_args(OnDownloadFailure):
            raise ValueError(f"on_download_failure: expected `wait` or `stop`, got {on_download_failure!r}")
        self._token = token
        self._cache_dir = cache_dir
        self._pickled = allow_pickled_weights
        self._backoff = replace(backoff, tries=None) if on_download_failure == "wait" else backoff
        self._budget = DiskBudget(max_cached_gb, cache_dir=cache_dir)

    def need(self, revisions: Iterable[Revision]) -> None:
        """Say which revisions are still to come; the disk budget may remove the others."""
        self._budget.need(revisions)

    def folder(
        self, revision: Revision, *, show_progress: bool = True, stopped: threading.Event | None = None
    ) -> Path:
        """Return the folder with config.json and weights.

        Args:
            revision: A pinned revision.
            show_progress: Draw the Hub client's progress bars.
            stopped: Ends the waiting between two tries when set.

        Raises:
            ValueError: The folder is gone or not whole, or the revision is refused.
            HubUnavailable, DiskFull: The download failed at every try.
        """

        def get() -> Path:
            return folder_of(
                revision,
                token=self._token,
                cache_dir=self._cache_dir,
                allow_pickled_weights=self._pickled,
                show_progress=show_progress,
                backoff=self._backoff,
                stopped=stopped,
            )

        return self._budget.fetch(revision, get, size=lambda: self._bytes_of(revision))

    def _bytes_of(self, revision: Revision) -> int:
        repository = ModelRepository(revision.source, token=self._token, cache_dir=self._cache_dir)
        snapshot = repository.snapshot(revision.commit)
        try:
            entries = repository.entries(revision.commit)
        except HubUnavailable:
            return 0  # The download that follows says what is the matter.
        lacking = {name: entry for name, entry in entries.items() if not (snapshot / name).exists()}
        return download_bytes(lacking, revision.subfolder, allow_pickled_weights=self._pickled)
