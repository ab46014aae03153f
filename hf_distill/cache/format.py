"""cache.json: what a folder of cached targets holds, whose they are, and how each file proves that it is whole."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hf_distill.atomic import atomic_write_json, json_ready
from hf_distill.strict_dataclass import from_mapping, to_mapping
from hf_distill.teachers.weight_files import file_sha256, is_plain_name

MANIFEST = "cache.json"
SHARDS = "shards"
HEADS = "heads"
TEACHER = "teacher"
SCHEMA = 1
_READERS = 4


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of the cache.

    Attributes:
        path: Relative to the cache's folder, with "/".
        sha256: Of its content.
        size: In bytes.
        commit: The revision whose targets or output layer it holds; None for what belongs to no revision.
        examples: Whose targets it holds.
        rows: Of all its examples.
    """

    path: str
    sha256: str
    size: int
    commit: str | None = None
    examples: int = 0
    rows: int = 0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What two sessions must agree on to write into one cache.

    Attributes:
        codec: `name` and fields of the codec.
        head: What the models predict.
        vocabulary: Width of the teacher's logits.
        inputs: Names that the teacher's forward accepts.
        precision: Number format of the teacher's arithmetic, as `training` asks for it.
        loading: How the teacher's weights were loaded, where that is not as they are stored: `dtype`, `quantization`.
        tokenizer: Hash of the tokenizer that made the token ids; None where there are none.
        max_length: Tokens of an example at most, where the task says so.
    """

    codec: dict[str, Any]
    head: str
    vocabulary: int
    inputs: list[str]
    precision: str = "no"
    loading: dict[str, Any] = field(default_factory=dict)
    tokenizer: str | None = None
    max_length: int | None = None


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A folder of cached targets.

    Attributes:
        settings: What its targets are.
        revisions: Name, step, source, revision and commit of each of the teacher's revisions, first to final.
        complete: Whether all examples are there that were to be written.
        files: All files but this one.
        data: Fingerprint of the data and settings of the task, for messages.
        walks: Fingerprints of the student runs whose examples are all here, and how often each asks.
        teacher: What was found about the teacher while it was at hand: parameters, held-out scores.
        recipe: Whose targets they are, where there is a recipe.
        schema: Of this file.
    """

    settings: Settings
    revisions: list[dict[str, Any]]
    complete: bool = False
    files: list[StoredFile] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)
    walks: dict[str, int] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] | None = None
    schema: int = SCHEMA

    @property
    def shards(self) -> list[StoredFile]:
        """The files with targets."""
        return [file for file in self.files if file.path.startswith(f"{SHARDS}/")]

    @property
    def examples(self) -> int:
        """How many targets there are: one for each example and revision."""
        return sum(file.examples for file in self.shards)

    @property
    def rows(self) -> int:
        """Of all targets."""
        return sum(file.rows for file in self.shards)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def head_file(self, commit: str) -> StoredFile | None:
        """Return the file with a revision's output layer, where there is one."""
        return next((f for f in self.files if f.path.startswith(f"{HEADS}/") and f.commit == commit), None)

    def save(self, folder: Path) -> None:
        """Write cache.json, atomically, with its own checksum."""
        atomic_write_json(folder / MANIFEST, self.content())

    def content(self) -> dict[str, Any]:
        """Return what cache.json holds."""
        return {**json_ready(to_mapping(self)), "digest": self.digest()}

    def digest(self) -> str:
        """Return the hash of the whole manifest, and so of the whole cache."""
        return digest_of(json_ready(to_mapping(self)))

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read cache.json.

        Raises:
            ValueError: It is missing, damaged or of another version of this library.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise ValueError(
                f"{folder} holds no cached targets: it has no {MANIFEST}. Write them with `hf-distill cache RECIPE`"
            )
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            schema, digest = content["schema"], content.pop("digest")
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}); {again(folder)}") from None
        if schema != SCHEMA:
            raise ValueError(
                f"{path} has schema {schema}, this version of hf_distill reads {SCHEMA}; write the cache anew, or use "
                "the version that wrote it"
            )
        if digest_of(content) != digest:
            raise ValueError(f"{path} is damaged: it does not match its own checksum; {again(folder)}")
        return from_mapping(cls, content, path=str(path))

    def with_files(self, files: Iterable[StoredFile], **changes: Any) -> Manifest:
        """Return the manifest with these files, sorted, and other changes."""
        return replace(self, files=sorted(files, key=lambda file: file.path), **changes)


def again(folder: Path) -> str:
    """Return what to do about a damaged cache."""
    return (
        f"run `hf-distill cache` again with --output {folder}: what is whole is kept, and only what is missing goes "
        "through the teacher (one from the Hub: download it again)"
    )


def digest_of(content: dict[str, Any]) -> str:
    """Return the SHA-256 of plain data in a canonical form."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def file_problem(folder: Path, file: StoredFile) -> str | None:
    """Return what is wrong with a file of a cache, or None: missing, cut short, or with another content."""
    path = folder / file.path
    if not path.is_file():
        return f"{file.path} is missing"
    size = path.stat().st_size
    if size != file.size:
        return f"{file.path} is {'cut short' if size < file.size else 'too long'}: {size} bytes instead of {file.size}"
    if file_sha256(path) != file.sha256:
        return f"{file.path} is damaged: its content does not match its checksum"
    return None


def check_names(folder: Path, files: Iterable[StoredFile]) -> None:
    """Refuse a list, which may have come from the Hub, that leads out of its folder.

    Raises:
        ValueError: It does.
    """
    for file in files:
        if not all(is_plain_name(part) for part in file.path.split("/")):
            raise ValueError(f"{folder / MANIFEST} names {file.path!r}, which is no file of its folder")


def check_files(folder: Path, files: list[StoredFile], *, on_bytes: Callable[[int], None] = lambda size: None) -> None:
    """Compare every file with its checksum.

    Args:
        folder: The cache.
        files: Those to look at.
        on_bytes: Told the size of each file that was read.

    Raises:
        ValueError: A file is missing, cut short or damaged, or named outside the folder; all such files are named.
    """
    check_names(folder, files)

    def look(file: StoredFile) -> str | None:
        problem = file_problem(folder, file)
        on_bytes(file.size)
        return problem

    with ThreadPoolExecutor(_READERS) as pool:
        problems = [problem for problem in pool.map(look, files) if problem]
    if problems:
        shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise ValueError(f"the cached targets in {folder} are not whole: {shown}. To mend them, {again(folder)}")
