"""One model repository: the Hub's answers about it, or the local cache's when the Hub cannot be reached."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import tqdm

from hf_distill.teachers.checkpoint_files import whole_checkpoint_problem
from hf_distill.teachers.revision_spec import COMMIT, Revision, those_that_exist
from hf_distill.teachers.weight_files import file_sha256, is_plain_name, weight_files

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.tiktoken", "*.jinja", "*.py")
OFFLINE = "offline mode is on"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TOO_MANY_REQUESTS = 429


class ModelRepository:
    """One model repository: the Hub's answers, or the local cache's once the Hub has not answered.

    Args:
        source: Model id.
        token: For private repositories; never logged.
        cache_dir: The Hub cache to use; None means the client's own.
    """

    def __init__(self, source: str, *, token: str | None = None, cache_dir: str | Path | None = None) -> None:
        self.source = source
        self.cache_dir = cache_dir
        self.unreachable: str | None = None
        self._api = HfApi(token=token)
        cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
        self._storage = cache / repo_folder_name(repo_id=source, repo_type="model")

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
            if not all(map(is_plain_name, name.split("/"))):
                raise ValueError(f"model {self.source} has a branch or tag named {name!r}, which is not a legal name")
        return names

    def commit_of(self, name: str) -> str:
        """Return the commit that a branch, tag or commit names now.

        Raises:
            ValueError: There is no such revision, or it is not in the cache and the Hub cannot be reached.
        """
        try:
            commit = self._ask(lambda: self._resolve(name))
        except RevisionNotFoundError:
            raise ValueError(
                f"model {self.source} has no revision {name!r}. Revisions it has: {those_that_exist(self.names, name)}"
            ) from None
        commit = commit or self._cached_commit(name)
        if commit is None:
            raise ValueError(
                f"revision {name!r} of {self.source} is not in the cache and the Hub cannot be reached "
                f"({self.unreachable}). In the cache: {those_that_exist(self._cached_names(), name)}. "
                f"Download it while online: {self.download_command(name)}"
            )
        if not COMMIT.fullmatch(commit):
            raise ValueError(f"revision {name!r} of {self.source} resolved to {commit!r}, which is no commit")
        return commit

    def files(self, commit: str) -> list[str]:
        """Return the names of a commit's files, with "/" between folders; of the cache, those that are there."""
        listed = self._ask(lambda: self._api.list_repo_files(self.source, revision=commit))
        if listed is None:
            snapshot = self.snapshot(commit)
            listed = [path.relative_to(snapshot).as_posix() for path in snapshot.rglob("*") if path.is_file()]
        return listed

    def snapshot(self, commit: str) -> Path:
        """Return the folder of a commit in the cache, which may not exist."""
        return self._storage / "snapshots" / commit

    def download_command(self, revision: str, subfolder: str | None = None, *, force: bool = False) -> str:
        """Return the command that puts a revision into the cache."""
        words = ["hf", "download", self.source, "--revision", revision]
        words += ["--include", f'"{subfolder}/*"'] if subfolder else []
        words += ["--cache-dir", str(self.cache_dir)] if self.cache_dir else []
        return " ".join(words + (["--force-download"] if force else []))

    def _resolve(self, name: str) -> str | None:
        if COMMIT.fullmatch(name):
            return self._api.model_info(self.source, revision=name).sha
        # It also notes the commit in the cache's refs/, where the next start finds it offline.
        return self._api.resolve_revision(self.source, revision=name, cache_dir=self.cache_dir).resolved

    def _ask(self, question: Callable[[], Answer], *, cache_on_error: bool = True) -> Answer | None:
        """Return the Hub's answer, or None where the cache has to answer.

        The client's error texts may quote requests, so that ours name the status only and drop the cause.
        """
        if self.unreachable:
            return None
        try:
            return question()
        except RevisionNotFoundError:
            raise
        except HfHubHTTPError as error:
            status = error.response.status_code
            if not (cache_on_error and is_passing(status)):
                raise refusal(self.source, status) from None
            self._give_up(f"it answered {status}")
        except (OfflineModeIsEnabled, HTTPError, RevisionResolutionError) as error:
            reason = error.__cause__ or error
            self._give_up(OFFLINE if isinstance(reason, OfflineModeIsEnabled) else type(reason).__name__)
        return None

    def _give_up(self, reason: str) -> None:
        self.unreachable = reason
        level = logging.INFO if reason == OFFLINE else logging.WARNING
        logger.log(level, "The Hub cannot be reached for %s (%s); only what is cached is seen", self.source, reason)

    def _cached_names(self) -> list[str]:
        refs = self._storage / "refs"
        return sorted(path.relative_to(refs).as_posix() for path in refs.rglob("*") if path.is_file())

    def _cached_commit(self, name: str) -> str | None:
        ref = self._storage / "refs" / name
        if ref.is_file():
            return ref.read_text(encoding="utf-8").strip()
        return name if COMMIT.fullmatch(name) and self.snapshot(name).is_dir() else None


def download(
    revision: Revision,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    allow_pickled_weights: bool = False,
    show_progress: bool = True,
) -> Path:
    """Return the folder of a pinned Hub revision in the cache, after downloading what it lacks.

    Raises:
        ValueError: Offline mode is on and the cache lacks it, the Hub refuses it, or what arrived is not whole or not
            what the Hub announced.
        ConnectionError: The Hub cannot be reached, or the connection broke. Another try resumes the download.
    """
    repository = ModelRepository(revision.source, token=token, cache_dir=cache_dir)
    inside = f"{revision.subfolder}/" if revision.subfolder else ""
    patterns = [*_FILES, *(["*.bin"] if allow_pickled_weights else [])]
    folder = repository.snapshot(revision.commit) / inside
    was_whole = whole_checkpoint_problem(folder, allow_pickled_weights=allow_pickled_weights) is None
    try:
        snapshot_download(
            revision.source,
            revision=revision.commit,
            token=token,
            cache_dir=cache_dir,
            allow_patterns=[inside + pattern for pattern in patterns],
            # Deeper folders are other models: with `hub_strategy="all_checkpoints"` every checkpoint lies in one.
            ignore_patterns=[inside + "*/*"],
            tqdm_class=tqdm if show_progress else Silent,
        )
    except HfHubHTTPError as error:
        raise refusal(revision.source, error.response.status_code) from None
    except LocalEntryNotFoundError as error:
        offline = isinstance(error.__cause__, OfflineModeIsEnabled)
        kind, why = (ValueError, OFFLINE) if offline else (ConnectionError, "the Hub cannot be reached")
        command = repository.download_command(revision.commit, revision.subfolder)
        raise kind(f"{revision} is not whole in the cache and {why}. Download it while online: {command}") from None
    except HTTPError as error:
        reason = type(error).__name__
        raise ConnectionError(f"the download of {revision} broke off ({reason}); the next start resumes it") from None
    problem = whole_checkpoint_problem(folder, allow_pickled_weights=allow_pickled_weights)
    if problem:
        command = repository.download_command(revision.commit, revision.subfolder, force=True)
        raise ValueError(f"{revision} in {folder} is not usable: {problem}. To download it anew: {command}")
    if not was_whole:
        drop_altered_files(folder)
    return folder


def drop_altered_files(folder: Path) -> None:
    """Compare weights that just arrived with the hash that the Hub announced, which names their file in the cache.

    The client itself compares sizes only. Where the cache has no links (Windows), nothing can be compared.

    Raises:
        ValueError: A file has another content; it was removed from the cache, so that no later start trusts it.
    """
    for path in weight_files(folder):
        stored = path.resolve()
        if stored != path and _SHA256.fullmatch(stored.name) and file_sha256(stored) != stored.name:
            path.unlink()
            stored.unlink()
            raise ValueError(
                f"{path.name} arrived in {folder} with another content than the Hub announced, SHA-256 {stored.name}; "
                "it was removed from the cache, start again to download it anew"
            )


class Silent(tqdm):
    """A progress bar that is never drawn: a background thread must not write over the training's own bar."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})


def is_passing(status: int) -> bool:
    """Whether an answer's status means that the same request may succeed later."""
    return status >= 500 or status == _TOO_MANY_REQUESTS


def refusal(source: str, status: int) -> Exception:
    """Return the error for a refusing answer of the Hub, whose own text might quote the request.

    A ConnectionError is worth another try, a ValueError needs another request.
    """
    if is_passing(status):
        return ConnectionError(
            f"model {source}: the Hub answered {status}; try again later, or set HF_HUB_OFFLINE=1 to use the cache"
        )
    if status in (401, 403, 404):
        return ValueError(
            f"model {source}: the Hub answered {status}. It does not exist, is private or gated, or the token is not "
            "valid for it; log in with `hf auth login` or give a token that may read it"
        )
    return ValueError(f"model {source}: the Hub answered {status}, which this version of hf_distill does not expect")
