"""Cached targets on the Hub: a data set whose list of files comes last, so that it is whole or not there."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from huggingface_hub import DatasetCard, DatasetCardData

from hf_distill.atomic import json_ready
from hf_distill.cache.codecs import CODECS
from hf_distill.cache.format import HEADS, MANIFEST, SHARDS, TEACHER, Manifest, check_files
from hf_distill.cache.reader import INDEX_KEY
from hf_distill.hub.card import template_path
from hf_distill.hub.hub_writer import HubWriter, Written
from hf_distill.redaction import without_local_paths, without_secrets
from hf_distill.report import wording
from hf_distill.report.tables import to_markdown

logger = logging.getLogger(__name__)

TEMPLATE = "targets_card_template.md"
TAGS = ["hf_distill", "distillation", "teacher-targets"]
FILES_A_COMMIT = 100


def push_cache(
    folder: str | Path,
    writer: HubWriter,
    *,
    private: bool = False,
    license: str | None = None,
    on_files: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Written:
    """Push a finished cache to a data set's main branch, with a card.

    Its files go first, in commits of a hundred; the list that makes it a cache goes last, together with the removal
    of files that an earlier version had. Cut off, the same call goes on: what the Hub holds is left alone.

    Args:
        folder: The cache.
        writer: Of the data set (`repo_type="dataset"`), which is made where it does not exist.
        private: Make a private data set, and refuse one that is public.
        license: Id of a license of the Hub, for the card.
        on_files: Told what was pushed, how many files are there, and how many there are.

    Raises:
        ValueError: The cache is unfinished or damaged, or the Hub refuses.
        HubUnavailable: The Hub stayed out of reach; start again to go on.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    if not manifest.complete:
        raise ValueError(f"the cached targets in {folder} are unfinished; finish them with `hf-distill cache` first")
    check_files(folder, manifest.files)
    public = public_manifest(manifest)
    writer.create(private=private)
    paths = [file.path for file in manifest.files]
    for start in range(0, len(paths), FILES_A_COMMIT):
        part = paths[start : start + FILES_A_COMMIT]
        writer.put({path: folder / path for path in part}, message=f"Cached targets, file {start + 1} and on")
        on_files(part[-1], start + len(part), len(paths))
    card = targets_card(public, writer.repo_id, license=license)
    return writer.put(
        {MANIFEST: encoded(public), "README.md": str(card).rstrip().encode() + b"\n"},
        message="Cached targets",
        replaces=lambda path: path.split("/")[0] in (SHARDS, HEADS, INDEX_KEY, TEACHER) and path not in paths,
    )


def public_manifest(manifest: Manifest) -> Manifest:
    """Return a manifest as it is published: without tokens and without paths of this machine."""
    clean = {
        name: without_local_paths(without_secrets(vars(manifest)[name]))
        for name in ("revisions", "data", "teacher", "recipe")
    }
    return replace(manifest, **clean)


def encoded(manifest: Manifest) -> bytes:
    """Return the content of cache.json."""
    return json.dumps(json_ready(manifest.content()), indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def targets_card(manifest: Manifest, repo_id: str, *, license: str | None = None) -> DatasetCard:
    """Return the card of cached targets; the same targets give the same text.

    Args:
        manifest: As it is published.
        repo_id: Where it is published.
        license: Id of a license of the Hub.
    """
    settings = manifest.settings
    codec = CODECS.build(settings.codec, path="codec")
    rows = []
    for revision in manifest.revisions:
        files = [file for file in manifest.files if file.commit == revision["commit"]]
        counts = (sum(file.examples for file in files), sum(file.rows for file in files))
        if files:
            size = wording.size(sum(file.size for file in files))
            rows.append([revision["name"], revision["commit"], *map(wording.count, counts), size])
    stored = sum(file.size for file in manifest.shards)
    sources = dict.fromkeys(str(revision["source"]) for revision in manifest.revisions)
    return DatasetCard.from_template(
        DatasetCardData(license=license, tags=TAGS),
        template_path=str(template_path(TEMPLATE)),
        title=repo_id.rpartition("/")[2],
        repo_id=repo_id,
        codec=codec.title(),
        examples=wording.count(manifest.examples),
        rows=wording.count(manifest.rows),
        bytes_per_row=wording.count(stored / manifest.rows) if manifest.rows else wording.UNKNOWN,
        size=wording.size(manifest.size),
        source=", ".join(sources),
        head=settings.head.replace("_", " "),
        vocabulary=wording.count(settings.vocabulary),
        precision="float32 or as stored" if settings.precision == "no" else settings.precision,
        data=manifest.data.get("description", {}).get("source", wording.UNKNOWN),
        revisions_table=to_markdown(["revision", "commit", "examples", "rows", "size"], rows, left=2).rstrip(),
    )
