"""Files of the Hub cache compared, once, with the hashes that the Hub announced; the client compares sizes only."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from pathlib import Path

from hf_distill.atomic import atomic_write_json
from hf_distill.teachers.revision_spec import Revision
from hf_distill.teachers.weight_files import file_sha256

logger = logging.getLogger(__name__)

_SHA256 = re.compile(r"[0-9a-f]{64}")
_GIT_SHA1 = re.compile(r"[0-9a-f]{40}")
_FOLDER = "verified"
"""Beside `refs` and `snapshots` of the cache: the client keeps no such notes."""

Stamps = dict[str, list[str | int]]
"""File name -> name of its content in the cache, size in bytes, modification time in ns."""


class Altered(ValueError):
    """Files have another content than the Hub announced; they were removed from the cache."""


def verified_file(storage: Path, revision: Revision) -> Path:
    """Return where the files of a revision that were found right are noted: in its repository's part of the cache."""
    inside = f"--{revision.subfolder.replace('/', '--')}" if revision.subfolder else ""
    return storage / _FOLDER / f"{revision.commit}{inside}.json"


def drop_altered_files(folder: Path, verified: Path) -> None:
    """Compare the files of a revision with the hashes that the Hub announced, which name their contents in the cache.

    Files noted in `verified` are not read again while their size and time stay; a file that arrived just before its
    process was killed is in no note. Where the cache has no links (Windows), nothing can be compared.

    Args:
        folder: A folder in the cache's snapshots.
        verified: The note, written when all files are right; see `verified_file`.

    Raises:
        Altered: Files have another content; they were removed from the cache, so that no later start trusts them.
        ValueError: They have another content and cannot be removed.
    """
    noted = _read(verified)
    found: Stamps = {}
    altered = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        stored = path.resolve()
        if stored == path or not stored.is_file():
            continue
        # Before the content is read: what changes meanwhile has another time.
        found[path.name] = [stored.name, stored.stat().st_size, stored.stat().st_mtime_ns]
        if noted.get(path.name) != found[path.name] and not _as_announced(stored):
            altered.append(path)
    if altered:
        _drop(altered)
    if found != noted:
        _write(verified, found)


def _as_announced(stored: Path) -> bool:
    if _SHA256.fullmatch(stored.name):
        return file_sha256(stored) == stored.name
    if _GIT_SHA1.fullmatch(stored.name):
        content = stored.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == stored.name
    return True


def _drop(altered: list[Path]) -> None:
    names = ", ".join(path.name for path in altered)
    problem = f"{names} in {altered[0].parent}: another content than the Hub announced"
    try:
        for path in altered:
            stored = path.resolve()
            path.unlink(missing_ok=True)
            stored.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(f"{problem}. It cannot be removed from the cache ({error.strerror}); remove it") from error
    raise Altered(f"{problem}. It was removed from the cache; start again to download it anew")


def _read(verified: Path) -> Stamps:
    try:
        noted = json.loads(verified.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def _write(verified: Path, found: Stamps) -> None:
    try:
        atomic_write_json(verified, found)
    except OSError as error:
        # A cache that others keep may be read-only: nothing is lost but the time to compare again.
        logger.info("Cannot note in the cache which files were compared, %s: %s", verified, error.strerror)
