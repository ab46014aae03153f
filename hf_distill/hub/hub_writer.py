"""Writing to one repository: whole commits or nothing, passing failures tried again, no token in any message."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled, RevisionNotFoundError
from huggingface_hub.hf_api import RepoFile

from hf_distill.teachers.retry import Backoff, HubUnavailable, retried

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")
Content = Path | bytes
MAIN = "main"
_BLOCK = 4 * 2**20
_PASSING = (408, 412, 423, 425, 429)
_REFUSED = (401, 403, 404)


class Written(NamedTuple):
    """A commit that holds the files, and whether it had to be made."""

    commit: str
    new: bool


class HubWriter:
    """One repository, to write to.

    Every call is tried again after a passing failure: no answer, a broken connection, 429, 5xx, or a branch that moved
    under the commit (412). What the Hub refuses for good is a ValueError.

    Args:
        repo_id: "org/name".
        token: Access token; None means the one that `hf auth login` keeps. It appears in no message.
        backoff: How often to try.
        repo_type: Whether it holds a model or a data set.
    """

    def __init__(
        self,
        repo_id: str,
        *,
        token: str | None = None,
        backoff: Backoff | None = None,
        repo_type: Literal["model", "dataset"] = "model",
    ) -> None:
        self.repo_id = repo_id
        self.repo_type = repo_type
        self.backoff = backoff or Backoff(tries=6)
        self._api = HfApi(token=token)

    def create(self, *, private: bool = False) -> None:
        """Make the repository where it does not exist; an existing one keeps its visibility.

        Raises:
            ValueError: The Hub refuses it, or an existing repository is public where a private one is asked for.
            HubUnavailable: The Hub did not answer.
        """
        self._retried(
            "creating it",
            lambda: self._api.create_repo(self.repo_id, private=private, exist_ok=True, repo_type=self.repo_type),
        )
        if private and self._retried("looking at it", self._info).private is False:
            raise ValueError(
                f"{self.repo_id} exists and is public, but a private push was asked for; nothing was pushed. Make it "
                "private in its settings, choose another name, or push without --private"
            )

    def refs(self) -> dict[str, str]:
        """Return the commit of each branch and tag."""
        refs = self._retried("listing its revisions", self._refs)
        return {ref.name: ref.target_commit for ref in [*refs.tags, *refs.branches]}

    def first_commit(self) -> str:
        """Return the commit that main began with."""
        listed = self._retried(
            "listing its commits", lambda: self._api.list_repo_commits(self.repo_id, repo_type=self.repo_type)
        )
        return listed[-1].commit_id

    def files(self, revision: str) -> dict[str, RepoFile]:
        """Return the files of a revision by path."""
        listed = self._retried(f"listing {revision}", lambda: list(self._tree(revision)))
        return {file.path: file for file in listed}

    def license_of(self, models: Sequence[str]) -> str | None:
        """Return the license that these models of the Hub share, or None: they differ, say none or cannot be seen."""
        found = set()
        for model in models:
            try:
                with hub_errors(model):
                    info = self._api.model_info(model)
            except (HubUnavailable, ValueError) as error:
                logger.warning("The license of a base model is not known: %s", error)
                return None
            found.add(info.card_data.get("license") if info.card_data else None)
        return found.pop() if len(found) == 1 else None

    def put(
        self,
        files: Mapping[str, Content],
        *,
        branch: str = MAIN,
        message: str,
        replaces: Callable[[str], bool] = lambda path: False,
    ) -> Written:
        """Bring a branch to hold these files, in one commit; none is made where it holds them already.

        Args:
            files: Path in the repository -> local file or content.
            branch: It must exist.
            message: Title of the commit.
            replaces: Says of another file of the branch whether to delete it.

        Raises:
            ValueError: The Hub refuses it.
            HubUnavailable: The last try failed too. The branch holds all of the files or is as it was.
        """

        def once() -> Written:
            head = self._head(branch)
            there = {entry.path: entry for entry in self._tree(head)}
            changed = {path: item for path, item in files.items() if not is_same(item, there.get(path))}
            gone = [path for path in there if path not in files and replaces(path)]
            if not changed and not gone:
                return Written(head, new=False)
            made = self._api.create_commit(
                self.repo_id,
                [
                    *(CommitOperationAdd(path, _source(item)) for path, item in changed.items()),
                    *(CommitOperationDelete(path, is_folder=False) for path in gone),
                ],
                commit_message=message,
                revision=branch,
                repo_type=self.repo_type,
                # Without it, what somebody else committed in between would become a part of this revision.
                parent_commit=head,
            )
            return Written(made.oid, new=True)

        return self._retried(f"the commit {message!r}", once)

    def create_branch(self, name: str, *, commit: str) -> None:
        """Make a branch at a commit; one that is there stays where it is."""
        self._retried(
            f"making branch {name}",
            lambda: self._api.create_branch(
                self.repo_id, branch=name, revision=commit, exist_ok=True, repo_type=self.repo_type
            ),
        )

    def create_tag(self, name: str, *, commit: str) -> None:
        """Make a tag at a commit; one that is there stays where it is."""
        self._retried(
            f"making tag {name}",
            lambda: self._api.create_tag(
                self.repo_id, tag=name, revision=commit, exist_ok=True, repo_type=self.repo_type
            ),
        )

    def delete_branch(self, name: str) -> None:
        """Delete a branch where it exists."""

        def once() -> None:
            try:
                self._api.delete_branch(self.repo_id, branch=name, repo_type=self.repo_type)
            except RevisionNotFoundError:
                logger.debug("%s has no branch %s to delete", self.repo_id, name)

        self._retried(f"deleting branch {name}", once)

    def _info(self) -> Any:
        return self._api.repo_info(self.repo_id, repo_type=self.repo_type)

    def _refs(self) -> Any:
        return self._api.list_repo_refs(self.repo_id, repo_type=self.repo_type)

    def _head(self, branch: str) -> str:
        found = next((ref.target_commit for ref in self._refs().branches if ref.name == branch), None)
        if found is None:
            raise ValueError(f"{self.repo_id} has no branch {branch!r}; make it first")
        return found

    def _tree(self, revision: str) -> Iterator[RepoFile]:
        tree = self._api.list_repo_tree(self.repo_id, recursive=True, revision=revision, repo_type=self.repo_type)
        return (entry for entry in tree if isinstance(entry, RepoFile))

    def _retried(self, what: str, work: Callable[[], Answer]) -> Answer:
        def once() -> Answer:
            with hub_errors(self.repo_id):
                return work()

        return retried(once, what=f"{what} ({self.repo_id})", backoff=self.backoff)


def is_same(content: Content, file: RepoFile | None) -> bool:
    """Whether a file of the Hub has this content, by size and hash: SHA-256 of a large file, git's of others."""
    if file is None:
        return False
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if size != file.size:
        return False
    if file.lfs is not None:
        return file.lfs.sha256 == _digest(content, hashlib.sha256())
    return file.blob_id == _digest(content, hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False))


def make_branch(repo_id: str, name: str, *, token: str | None = None) -> None:
    """Make a branch at main where it does not exist.

    Raises:
        ValueError: The Hub refuses.
        HubUnavailable: The Hub stayed out of reach.
    """
    writer = HubWriter(repo_id, token=token)
    refs = writer.refs()
    if name not in refs:
        writer.create_branch(name, commit=refs[MAIN])


@contextmanager
def hub_errors(repo_id: str) -> Iterator[None]:
    """Turn the client's errors, whose texts may quote requests and signed addresses, into ours without their cause.

    Raises:
        HubUnavailable: The same request may succeed later.
        ValueError: It needs another request: a valid token, another name.
    """
    try:
        yield
    except OfflineModeIsEnabled:
        raise ValueError(
            f"{repo_id}: offline mode is on (HF_HUB_OFFLINE), and pushing needs the Hub; unset it and start again"
        ) from None
    except HubUnavailable:
        raise
    except (ConnectionError, TimeoutError) as error:
        # What the client's faster way of uploading (hf_xet) raises, with the request's address in its text.
        reason = type(error).__name__
        raise HubUnavailable(f"{repo_id}: the connection broke off ({reason})", reason=reason) from None
    except (HTTPError, RuntimeError) as error:
        if isinstance(error, HTTPError):
            raise _our_error(repo_id, error) from None
        # A large file's upload fails as a RuntimeError around the HTTP error. Whatever its status, a new try gets a
        # new signed address.
        if not isinstance(error.__cause__, HTTPError):
            raise
        reason = type(error.__cause__).__name__
        raise HubUnavailable(f"{repo_id}: the upload of a large file broke off ({reason})", reason=reason) from None


def _our_error(repo_id: str, error: HTTPError) -> Exception:
    if not isinstance(error, HfHubHTTPError):
        return HubUnavailable(f"{repo_id}: no answer from the Hub ({type(error).__name__})", reason="no answer")
    status = error.response.status_code
    if status >= 500 or status in _PASSING:
        wait = error.response.headers.get("Retry-After", "")
        return HubUnavailable(
            f"{repo_id}: the Hub answered {status}",
            reason=f"it answered {status}",
            answered=True,
            retry_after=float(wait) if wait.isdecimal() else None,
        )
    if status in _REFUSED:
        return ValueError(
            f"{repo_id}: the Hub answered {status}. The token is missing, expired or may not write to this "
            "repository; log in with `hf auth login` and a token with write access, then start again: what is pushed "
            "already is kept"
        )
    return ValueError(f"{repo_id}: the Hub refused the request with status {status}")


def _source(content: Content) -> str | bytes:
    return content if isinstance(content, bytes) else str(content)


def _digest(content: Content, digest: Any) -> str:
    if isinstance(content, bytes):
        digest.update(content)
        return digest.hexdigest()
    with open(content, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
