"""Downloading one pinned revision into the Hub cache: tried again where it may help, refused where it is not whole."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import tqdm

from hf_distill.teachers.checkpoint_files import whole_checkpoint_problem
from hf_distill.teachers.hub_content import Altered, drop_altered_files, verified_file
from hf_distill.teachers.hub_repository import OFFLINE, FileEntry, ModelRepository, refusal
from hf_distill.teachers.retry import Backoff, DiskFull, HubUnavailable, is_disk_full, retried
from hf_distill.teachers.revision_spec import Revision

logger = logging.getLogger(__name__)

DOWNLOADING = Backoff()
_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py")
_WRONG_SIZE = "Consistency check failed"
_MOST_ALTERED = 3
_STALE_SECONDS = 3600.0


def download(
    revision: Revision,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    allow_pickled_weights: bool = False,
    show_progress: bool = True,
    backoff: Backoff = DOWNLOADING,
    stopped: threading.Event | None = None,
) -> Path:
    """Return the folder of a pinned Hub revision in the cache, after downloading what it lacks or holds altered.

    Args:
        revision: What to download: exactly its commit, wherever its branch points now.
        token: For private repositories; appears in no message.
        cache_dir: The Hub cache to use; None means the client's own.
        allow_pickled_weights: Download pickled weights too.
        show_progress: Draw the client's progress bars.
        backoff: How often to try again after a failure that may pass.
        stopped: Ends the waiting between two tries when set.

    Raises:
        ValueError: Offline mode is on and the cache lacks it, the Hub refuses it, or what arrived is not whole or not
            what the Hub announced.
        HubUnavailable: The Hub cannot be reached, or the connection broke, at every try.
        DiskFull: The disk has no room for it.
    """
    repository = ModelRepository(revision.source, token=token, cache_dir=cache_dir)
    inside = f"{revision.subfolder}/" if revision.subfolder else ""
    folder = repository.snapshot(revision.commit) / inside
    if whole_checkpoint_problem(folder, allow_pickled_weights=allow_pickled_weights):
        _check_listing(repository, revision)

    def one_try() -> None:
        _fetch(
            repository,
            revision,
            patterns=[inside + pattern for pattern in file_patterns(allow_pickled_weights=allow_pickled_weights)],
            # Deeper folders are other models: with `hub_strategy="all_checkpoints"` every checkpoint lies in one.
            ignored=[inside + "*/*"],
            token=token,
            bars=tqdm if show_progress else Silent,
        )

    for number in range(1, _MOST_ALTERED + 1):
        retried(one_try, what=f"the download of {revision}", backoff=backoff, stopped=stopped)
        try:
            drop_altered_files(folder, verified_file(repository.storage, revision))
            break
        except Altered as error:
            if number == _MOST_ALTERED:
                raise
            logger.warning("%s, download %d of %d: %s", revision, number, _MOST_ALTERED, error)
    problem = whole_checkpoint_problem(folder, allow_pickled_weights=allow_pickled_weights)
    if problem:
        command = repository.download_command(revision.commit, revision.subfolder, force=True)
        raise ValueError(f"{revision} in {folder} is not usable: {problem}. To download it anew: {command}")
    drop_leftovers(folder)
    return folder


def file_patterns(*, allow_pickled_weights: bool = False) -> list[str]:
    """Return what is downloaded of a revision; optimizer states and random states are not."""
    return [*_FILES, *(["*.bin"] if allow_pickled_weights else [])]


def download_bytes(
    entries: dict[str, FileEntry], subfolder: str | None = None, *, allow_pickled_weights: bool = False
) -> int:
    """Return the bytes of a commit's files that a download brings."""
    inside = f"{subfolder}/" if subfolder else ""
    names = [name for name in entries if name.startswith(inside) and "/" not in name[len(inside) :]]
    patterns = file_patterns(allow_pickled_weights=allow_pickled_weights)
    return sum(entries[name].size for name in names if _fits(name[len(inside) :], patterns))


def _fits(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _check_listing(repository: ModelRepository, revision: Revision) -> None:
    """Refuse names that lead out of the folder, before the client sees them."""
    try:
        repository.entries(revision.commit)
    except HubUnavailable:
        return  # The download asks again, and says what it needs.


def _fetch(
    repository: ModelRepository,
    revision: Revision,
    *,
    patterns: list[str],
    ignored: list[str],
    token: str | None,
    bars: type[tqdm],
) -> None:
    """Let the client download what the cache lacks; its errors come out as ours, without its texts."""
    command = repository.download_command(revision.commit, revision.subfolder)
    try:
        snapshot_download(
            revision.source,
            revision=revision.commit,
            token=token,
            cache_dir=repository.cache_dir,
            allow_patterns=patterns,
            ignore_patterns=ignored,
            tqdm_class=bars,
        )
    except HfHubHTTPError as error:
        raise refusal(revision.source, error) from None
    except LocalEntryNotFoundError as error:
        if isinstance(error.__cause__, OfflineModeIsEnabled):
            raise ValueError(
                f"{revision} is not whole in the cache and {OFFLINE}. Download it while online: {command}"
            ) from None
        raise _unavailable(revision, error.__cause__, command) from None
    except HTTPError as error:
        raise HubUnavailable(
            f"the download of {revision} broke off ({type(error).__name__}); the next start goes on with it"
        ) from None
    except OSError as error:
        raise _translated(error, revision, repository) from None


def _unavailable(revision: Revision, cause: BaseException | None, command: str) -> HubUnavailable | ValueError:
    if isinstance(cause, HfHubHTTPError):
        return refusal(revision.source, cause)
    return HubUnavailable(
        f"{revision} is not whole in the cache and the Hub cannot be reached. Download it while online: {command}"
    )


def _translated(error: OSError, revision: Revision, repository: ModelRepository) -> OSError:
    if _WRONG_SIZE in str(error):
        return HubUnavailable(f"a file of {revision} arrived with another size than announced and was dropped")
    if is_disk_full(error):
        return DiskFull(
            error.errno,
            f"no room for {revision} in {repository.storage.parent}: free some, set `max_cached_gb`, or move the "
            "cache with HF_HOME",
        )
    return error


def drop_leftovers(folder: Path, *, older_than: float = _STALE_SECONDS) -> None:
    """Remove what killed downloads left of files that are whole by now.

    Args:
        folder: A folder in the cache's snapshots.
        older_than: Seconds since the last write; a younger one may belong to another process that is at work.
    """
    for path in folder.iterdir():
        stored = path.resolve()
        if stored == path:
            continue
        for leftover in stored.parent.glob(f"{stored.name}.*incomplete"):
            if time.time() - leftover.stat().st_mtime >= older_than:
                leftover.unlink(missing_ok=True)


class Silent(tqdm):
    """A progress bar that is never drawn: a background thread must not write over the training's own bar."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})
