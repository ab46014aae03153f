"""One model repository: the Hub's answers about it, or the local cache's when the Hub cannot be reached."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, TypeVar

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled, RevisionNotFoundError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile

from hf_distill.atomic import atomic_write_text
from hf_distill.teachers.retry import Backoff, HubUnavailable, retried
from hf_distill.teachers.revision_spec import COMMIT, those_that_exist
from hf_distill.teachers.weight_files import is_plain_name

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
OFFLINE = "offline mode is on"
ASKING = Backoff(tries=3)
"""Questions are tried less often than downloads: without a network, the cache should answer soon."""
_TOO_MANY_REQUESTS = 429


class FileEntry(NamedTuple):
    """One file of a commit.

    Attributes:
        size: In bytes.
        content: Names the content: its SHA-256, or git's SHA-1 of a small file.
    """

    size: int
    content: str


class HistoryEntry(NamedTuple):
    """One commit of a branch."""

    commit: str
    title: str
    date: datetime


class ModelRepository:
    """One model repository: the Hub's answers, or the local cache's once the Hub has not answered.

    Args:
        source: Model id.
        token: For private repositories; never logged.
        cache_dir: The Hub cache to use; None means the client's own.
        backoff: How often the Hub is asked before the cache has to answer.
    """

    def __init__(
        self,
        source: str,
        *,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        backoff: Backoff = ASKING,
    ) -> None:
        self.source = source
        self.cache_dir = cache_dir
        self.unreachable: str | None = None
        self._api = HfApi(token=token)
        self._backoff = backoff
        self._entries: dict[str, dict[str, FileEntry]] = {}
        cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
        self.storage = cache / repo_folder_name(repo_id=source, repo_type="model")

    @cached_property
    def names(self) -> list[str]:
        """Branches and tags; of the cache, those that were once asked for.

        A Hub that answers with an error is no reason to go by the cache: a pattern would match a part of the sequence.
        """
        refs = self._ask(lambda: self._api.list_repo_refs(self.source), cache_on_error=False)
        if refs is None:
            return self._cached_names()
        names = list(dict.fromkeys(ref.name for ref in [*refs.branches, *refs.tags]))
        for name in names:
            if not _stays_inside(name):
                raise ValueError(f"model {self.source} has a branch or tag named {name!r}, which is not a legal name")
        return names

    def commit_of(self, name: str) -> str:
        """Return the commit that a branch, tag or commit names now, and note it for the next start offline.

        Raises:
            ValueError: There is no such revision, or it is not in the cache and the Hub cannot be reached.
        """
        try:
            info = self._ask(lambda: self._api.model_info(self.source, revision=name))
        except RevisionNotFoundError:
            raise ValueError(
                f"model {self.source} has no revision {name!r}. Revisions it has: {those_that_exist(self.names, name)}"
            ) from None
        commit = info.sha if info is not None else self._cached_commit(name)
        if commit is None:
            raise ValueError(
                f"revision {name!r} of {self.source} is not in the cache and the Hub cannot be reached "
                f"({self.unreachable}); nor is there a folder {self.source}. "
                f"In the cache: {those_that_exist(self._cached_names(), name)}. "
                f"Download it while online: {self.download_command(name)}"
            )
        if not COMMIT.fullmatch(commit):
            raise ValueError(f"revision {name!r} of {self.source} resolved to {commit!r}, which is no commit")
        if info is not None and not COMMIT.fullmatch(name):
            self._note_reference(name, commit)
        return commit

    def entries(self, commit: str) -> dict[str, FileEntry]:
        """Return a commit's files by name, with "/" between folders; of the cache, those that are there.

        Raises:
            ValueError: A name leads out of the repository's folder.
        """
        if commit not in self._entries:
            listed = self._ask(lambda: list(self._api.list_repo_tree(self.source, recursive=True, revision=commit)))
            self._entries[commit] = self._cached_entries(commit) if listed is None else _entries_of(listed)
            outside = [name for name in self._entries[commit] if not _stays_inside(name)]
            if outside:
                raise ValueError(
                    f"{self.source} at {commit[:8]} lists a file named {outside[0]!r}, which would be written outside "
                    "its folder; the repository is refused"
                )
        return self._entries[commit]

    def date_of(self, commit: str) -> datetime | None:
        """Return when a commit was made; None where the Hub cannot be asked."""
        info = self._ask(lambda: self._api.model_info(self.source, revision=commit))
        return None if info is None else info.last_modified

    def history(self, branch: str) -> list[HistoryEntry] | None:
        """Return the commits of a branch, the oldest first; None where the Hub cannot be asked.

        Raises:
            ValueError: There is no such branch.
        """
        try:
            commits = self._ask(lambda: self._api.list_repo_commits(self.source, revision=branch))
        except RevisionNotFoundError:
            raise ValueError(
                f"model {self.source} has no branch {branch!r}. It has: {those_that_exist(self.names, branch)}"
            ) from None
        if commits is None:
            return None
        return [HistoryEntry(commit.commit_id, commit.title, commit.created_at) for commit in reversed(commits)]

    def snapshot(self, commit: str) -> Path:
        """Return the folder of a commit in the cache, which may not exist."""
        return self.storage / "snapshots" / commit

    def download_command(self, revision: str, subfolder: str | None = None, *, force: bool = False) -> str:
        """Return the command that puts a revision into the cache."""
        words = ["hf", "download", self.source, "--revision", revision]
        words += ["--include", f'"{subfolder}/*"'] if subfolder else []
        words += ["--cache-dir", str(self.cache_dir)] if self.cache_dir else []
        return " ".join(words + (["--force-download"] if force else []))

    def _ask(self, question: Callable[[], Answer], *, cache_on_error: bool = True) -> Answer | None:
        """Return the Hub's answer, or None where the cache has to answer.

        Raises:
            HubUnavailable: The Hub answers with errors, and the cache must not answer in its place.
        """
        if self.unreachable:
            return None
        try:
            return retried(lambda: self._once(question), what=f"a question about {self.source}", backoff=self._backoff)
        except HubUnavailable as error:
            if error.answered and not cache_on_error:
                raise
            self._give_up(error.reason)
        except OfflineModeIsEnabled:
            self._give_up(OFFLINE)
        return None

    def _once(self, question: Callable[[], Answer]) -> Answer:
        try:
            return question()
        except (RevisionNotFoundError, OfflineModeIsEnabled):
            raise
        # The client's error texts may quote requests, so that ours name the status only and drop the cause.
        except HfHubHTTPError as error:
            raise refusal(self.source, error) from None
        except HTTPError as error:
            raise HubUnavailable(
                f"the Hub cannot be reached for {self.source} ({type(error).__name__})", reason=type(error).__name__
            ) from None

    def _give_up(self, reason: str) -> None:
        self.unreachable = reason
        level = logging.INFO if reason == OFFLINE else logging.WARNING
        logger.log(level, "The Hub cannot be reached for %s (%s); only what is cached is seen", self.source, reason)

    def _note_reference(self, name: str, commit: str) -> None:
        reference = self.storage / "refs" / name
        if not _stays_inside(name) or (reference.is_file() and reference.read_text(encoding="utf-8") == commit):
            return
        try:
            atomic_write_text(reference, commit)
        except OSError as error:
            logger.warning("Cannot note in the cache what %s of %s is now: %s", name, self.source, error.strerror)

    def _cached_names(self) -> list[str]:
        refs = self.storage / "refs"
        return sorted(path.relative_to(refs).as_posix() for path in refs.rglob("*") if path.is_file())

    def _cached_commit(self, name: str) -> str | None:
        reference = self.storage / "refs" / name
        if reference.is_file():
            return reference.read_text(encoding="utf-8").strip()
        return name if COMMIT.fullmatch(name) and self.snapshot(name).is_dir() else None

    def _cached_entries(self, commit: str) -> dict[str, FileEntry]:
        snapshot = self.snapshot(commit)
        files = [path for path in snapshot.rglob("*") if path.is_file()]
        return {
            path.relative_to(snapshot).as_posix(): FileEntry(path.stat().st_size, path.resolve().name)
            for path in files
        }


def _entries_of(listed: Iterable[object]) -> dict[str, FileEntry]:
    files = [file for file in listed if isinstance(file, RepoFile)]
    return {file.path: FileEntry(file.size, file.lfs.sha256 if file.lfs else file.blob_id) for file in files}


def _stays_inside(name: str) -> bool:
    return all(map(is_plain_name, name.split("/")))


def is_passing(status: int) -> bool:
    """Whether an answer's status means that the same request may succeed later."""
    return status >= 500 or status == _TOO_MANY_REQUESTS


def refusal(source: str, error: HfHubHTTPError) -> HubUnavailable | ValueError:
    """Return the error for a refusing answer of the Hub, whose own text might quote the request.

    A HubUnavailable is worth another try, a ValueError needs another request.
    """
    status, wait = error.response.status_code, error.response.headers.get("Retry-After", "")
    if is_passing(status):
        return HubUnavailable(
            f"model {source}: the Hub answered {status}; try again later, or set HF_HUB_OFFLINE=1 to use the cache",
            reason=f"it answered {status}",
            answered=True,
            retry_after=float(wait) if wait.isdigit() else None,
        )
    if status in (401, 403, 404):
        return ValueError(
            f"model {source}: the Hub answered {status}. It does not exist, is private or gated, or the token is not "
            "valid for it; log in with `hf auth login` or give a token that may read it"
        )
    return ValueError(f"model {source}: the Hub answered {status}, which this version of hf_distill does not expect")
