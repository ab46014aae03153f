"""What a Hub keeps: repositories with commits, branches and tags over blobs, all in memory."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

LARGE = (".safetensors", ".bin", ".pt", ".pth", ".png", ".msgpack")
_EPOCH = datetime(2026, 1, 1, tzinfo=timezone.utc)


class HubError(Exception):
    """An answer other than 200, with the code that the client reads from its header."""

    def __init__(self, status: int, code: str | None, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Commit:
    """One version of a repository: path -> SHA-256 of the content."""

    oid: str
    parent: str | None
    title: str
    message: str
    date: datetime
    files: dict[str, str]


@dataclass
class Repository:
    """One repository.

    Args:
        name: "org/model", with "datasets/" before it for a data set.
        private: As asked for on creation.
    """

    name: str
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def resolve(self, revision: str) -> Commit:
        """Return the commit of a branch, tag or full hash."""
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise HubError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[oid]

    def commit(self, branch: str, files: dict[str, str], *, title: str, message: str = "") -> Commit:
        """Put a new version on a branch."""
        parent = self.branches.get(branch)
        number = len(self.commits)
        oid = hashlib.sha1(f"{self.name}{number}{parent}{title}{sorted(files.items())}".encode()).hexdigest()
        commit = Commit(oid, parent, title, message, _EPOCH + timedelta(minutes=number), dict(files))
        self.commits[oid] = commit
        self.branches[branch] = oid
        return commit

    def history(self, revision: str) -> list[Commit]:
        """Return a revision and what came before it, the newest first."""
        commits = [self.resolve(revision)]
        while commits[-1].parent:
            commits.append(self.commits[commits[-1].parent])
        return commits


class HubStore:
    """All repositories and the content of their files."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.lock = threading.RLock()

    def create(self, name: str, *, private: bool = False) -> Repository:
        """Make a repository with its first commit, as the Hub does."""
        if name in self.repositories:
            raise HubError(409, None, "You already created this model repo")
        repository = self.repositories[name] = Repository(name, private)
        attributes = self.put(b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n")
        repository.commit("main", {".gitattributes": attributes}, title="initial commit")
        return repository

    def get(self, name: str) -> Repository:
        """Return a repository."""
        if name not in self.repositories:
            raise HubError(404, "RepoNotFound", "Repository not found")
        return self.repositories[name]

    def put(self, content: bytes) -> str:
        """Keep a content and return its SHA-256."""
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return digest

    def entry(self, path: str, digest: str) -> dict[str, object]:
        """Describe one file as the tree route does."""
        content = self.blobs[digest]
        if not path.endswith(LARGE):
            return {"type": "file", "path": path, "size": len(content), "oid": git_sha1(content)}
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(content)}\n".encode()
        large = {"oid": digest, "size": len(content), "pointerSize": len(pointer)}
        return {"type": "file", "path": path, "size": len(content), "oid": git_sha1(pointer), "lfs": large}


def git_sha1(content: bytes) -> str:
    """Return the name that git gives a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
