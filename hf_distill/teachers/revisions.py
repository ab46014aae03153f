"""From what a recipe writes about its teacher to an ordered list of pinned revisions, and from a pin to its folder."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hf_distill.teachers.checkpoint_files import whole_checkpoint_problem
from hf_distill.teachers.folder_revisions import resolve_folder
from hf_distill.teachers.hub_download import DOWNLOADING, download
from hf_distill.teachers.hub_repository import ASKING
from hf_distill.teachers.hub_revisions import Resolution, resolve_hub_spec
from hf_distill.teachers.retry import Backoff
from hf_distill.teachers.revision_spec import MAIN, Revision, parse_spec
from hf_distill.teachers.selection import Selection, read_selection
from hf_distill.teachers.weight_files import content_hash, stamp_of

__all__ = [
    "Revision",
    "TeacherEntries",
    "check_unchanged",
    "folder_of",
    "resolve",
    "resolve_revisions",
    "selection_of",
]

logger = logging.getLogger(__name__)

TeacherEntries = str | Path | Sequence[str | Path] | Mapping[str, Any]
"""How a teacher sequence may be written: one entry, a list of entries, or a mapping with a selection."""


def resolve_revisions(spec: TeacherEntries, **options: Any) -> list[Revision]:
    """Return the revisions of `resolve`, without its notes."""
    return resolve(spec, **options).revisions


def resolve(
    spec: TeacherEntries,
    *,
    token: str | None = None,
    allow_pickled_weights: bool = False,
    cache_dir: str | Path | None = None,
    backoff: Backoff = ASKING,
) -> Resolution:
    """Return the revisions that a teacher sequence names, in order, each pinned to its commit or content.

    An entry of `spec` is

    - a Trainer output folder: its `checkpoint-*` by step, then the final model where it is newer than the last of
      them and another one; `folder@checkpoint-100,final` chooses among its sub-folders;
    - a folder that holds one model;
    - `org/model` (its main branch), `org/model@step100,main`, `org/model@step*` (branches and tags by step),
      `org/model@main~*` (the commits of a branch that brought new weights, oldest first),
      `org/model:checkpoint-*` (sub-folders), `org/model-step_{20,40}k` (one model each).

    A mapping gives the entries as `revisions` and chooses among them, see `Selection`; its `near_transition` needs
    scores and is left to who has them.

    Args:
        spec: One entry, a list of entries, or a mapping.
        token: For private repositories; appears in no message.
        allow_pickled_weights: Accept a revision that has no safetensors.
        cache_dir: The Hub cache to use; None means the Hub client's own.
        backoff: How often the Hub is asked before the cache has to answer.

    Returns:
        The revisions, and notes for people on what a history left out.

    Raises:
        ValueError: A revision does not exist (those that do are listed), is half-written, has pickled weights only, or
            is not in the cache while the Hub cannot be reached. Nothing is ever left out silently.
        HubUnavailable: The Hub answers with errors.
    """
    selection = selection_of(spec)
    entries = selection.entries if selection is not None else [spec] if isinstance(spec, (str, Path)) else list(spec)
    if not entries:
        raise ValueError("the teacher is an empty list; expected folders, model ids or `org/model@revision`")
    specs = [one for entry in entries for one in parse_spec(entry)]
    found: list[Revision] = []
    notes: list[str] = []
    for one in specs:
        if one.is_folder:
            revisions = resolve_folder(one, allow_pickled_weights=allow_pickled_weights)
        else:
            revisions, more = resolve_hub_spec(
                one,
                token=token,
                cache_dir=cache_dir,
                allow_pickled_weights=allow_pickled_weights,
                backoff=backoff,
            )
            notes += more
        whole_models = len(specs) > 1 and not (one.revisions or one.subfolders)
        found += [_named_after_source(revision) if whole_models else revision for revision in revisions]
    for note in notes:
        logger.info("%s", note)
    found = _distinct(found)
    return Resolution(found if selection is None else selection.of(found), notes)


def selection_of(spec: TeacherEntries) -> Selection | None:
    """Return the selection of a teacher given as a mapping, None for the other forms.

    Raises:
        ValueError: An unknown key or a wrong value.
    """
    return read_selection(spec, path="teacher") if isinstance(spec, Mapping) else None


def folder_of(
    revision: Revision,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    allow_pickled_weights: bool = False,
    show_progress: bool = True,
    backoff: Backoff = DOWNLOADING,
    stopped: threading.Event | None = None,
) -> Path:
    """Return the folder with config.json and weights; a Hub revision is downloaded where the cache lacks it.

    Args:
        revision: A pinned revision.
        token: For private repositories; appears in no message.
        cache_dir: The Hub cache to use; None means the Hub client's own.
        allow_pickled_weights: Accept a revision that has no safetensors.
        show_progress: Draw the Hub client's progress bars.
        backoff: How often to try a download.
        stopped: Ends the waiting between two tries when set.

    Raises:
        ValueError: The folder is gone or not whole, or the revision cannot be downloaded.
        HubUnavailable, DiskFull: The download failed at every try.
    """
    if revision.revision is not None:
        return download(
            revision,
            token=token,
            cache_dir=cache_dir,
            allow_pickled_weights=allow_pickled_weights,
            show_progress=show_progress,
            backoff=backoff,
            stopped=stopped,
        )
    folder = revision.folder or Path(revision.source).expanduser()
    problem = whole_checkpoint_problem(folder, allow_pickled_weights=allow_pickled_weights)
    if problem:
        raise ValueError(f"teacher revision {revision}: {folder} is no whole checkpoint any more: {problem}")
    return folder


def check_unchanged(revision: Revision) -> None:
    """Compare a local folder with its pin: sizes and times first, the content only where those differ.

    Raises:
        ValueError: The content is not that which was pinned; both hashes are named.
    """
    if revision.revision is not None or revision.folder is None or stamp_of(revision.folder) == revision.stamp:
        return
    now = content_hash(revision.folder)
    if now != revision.commit:
        raise ValueError(
            f"teacher revision {revision.name!r} in {revision.folder} changed since it was pinned: it was "
            f"{revision.commit} and is {now}. Put the files back, or start a new run with the new ones"
        )


def _named_after_source(revision: Revision) -> Revision:
    """In a list of models "main" says nothing: the model's own name does."""
    if revision.name != MAIN or revision.revision != MAIN:
        return revision
    return replace(revision, name=revision.source.rpartition("/")[2])


def _distinct(revisions: list[Revision]) -> list[Revision]:
    """Give revisions of one name the name of their source too.

    Raises:
        ValueError: The same revision of the same source is named twice.
    """
    for qualify in (_after_last_part, _after_source):
        count = Counter(revision.name for revision in revisions)
        revisions = [qualify(revision) if count[revision.name] > 1 else revision for revision in revisions]
    twice = [name for name, times in Counter(revision.name for revision in revisions).items() if times > 1]
    if twice:
        raise ValueError(f"the teacher sequence names {twice[0]!r} twice; each revision may stand in it once")
    return revisions


def _after_last_part(revision: Revision) -> Revision:
    part = Path(revision.source).name
    return replace(revision, name=part if part == revision.name else f"{part}@{revision.name}")


def _after_source(revision: Revision) -> Revision:
    return replace(revision, name=f"{revision.source}@{revision.name.rpartition('@')[2]}")
