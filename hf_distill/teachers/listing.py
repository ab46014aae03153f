"""What `hf-distill teachers list` shows: each revision with its commit, date, size and what of it is on disk."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

from hf_distill.teachers.hub_download import download_bytes
from hf_distill.teachers.hub_repository import FileEntry, ModelRepository
from hf_distill.teachers.revisions import Revision
from hf_distill.teachers.weight_files import weight_files, weights_format

_CONNECTIONS = 8


@dataclass(frozen=True, kw_only=True)
class ListedRevision:
    """One line of the list.

    Attributes:
        revision: The pinned revision.
        date: When it was committed, or a local folder's weights were written; None where that is not known offline.
        size: Bytes that a download brings; of what is cached, where the Hub cannot be asked.
        cached: "yes" where it is whole on disk, "in part" after a broken download, else "no".
    """

    revision: Revision
    date: datetime | None
    size: int
    cached: Literal["yes", "in part", "no"]


def list_revisions(
    revisions: Sequence[Revision],
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    allow_pickled_weights: bool = False,
) -> list[ListedRevision]:
    """Return date, size and cache state of pinned revisions; offline, what the cache tells.

    Args:
        revisions: As `resolve_revisions` gave them.
        token: For private repositories; appears in no message.
        cache_dir: The Hub cache to use; None means the Hub client's own.
        allow_pickled_weights: Count pickled weights as well.

    Raises:
        HubUnavailable: The Hub answers with errors.
    """
    repositories = {
        revision.source: ModelRepository(revision.source, token=token, cache_dir=cache_dir)
        for revision in revisions
        if revision.revision is not None
    }

    def line(revision: Revision) -> ListedRevision:
        if revision.revision is None:
            return _of_folder(revision)
        return _of_hub(repositories[revision.source], revision, allow_pickled_weights=allow_pickled_weights)

    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        return list(pool.map(line, revisions))


def _of_folder(revision: Revision) -> ListedRevision:
    assert revision.folder is not None
    written = max(path.stat().st_mtime for path in weight_files(revision.folder))
    sizes = {path.name: FileEntry(path.stat().st_size, "") for path in revision.folder.iterdir() if path.is_file()}
    return ListedRevision(
        revision=revision,
        date=datetime.fromtimestamp(written, tz=timezone.utc),
        size=download_bytes(sizes, allow_pickled_weights=weights_format(revision.folder) == "pickle"),
        cached="yes",
    )


def _of_hub(repository: ModelRepository, revision: Revision, *, allow_pickled_weights: bool) -> ListedRevision:
    entries = repository.entries(revision.commit)
    size = download_bytes(entries, revision.subfolder, allow_pickled_weights=allow_pickled_weights)
    cached: Literal["yes", "in part", "no"] = "yes"
    if revision.folder is None:
        folder = repository.snapshot(revision.commit) / (revision.subfolder or "")
        cached = "in part" if folder.is_dir() and any(folder.iterdir()) else "no"
    return ListedRevision(revision=revision, date=repository.date_of(revision.commit), size=size, cached=cached)
