"""From what a recipe writes about its teacher to an ordered list of pinned revisions, and from a pin to its folder."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from hf_distill.teachers.checkpoint_files import (
    TRAINER_STATE,
    checkpoints_in,
    json_problem,
    whole_checkpoint_problem,
)
from hf_distill.teachers.hub_repository import download
from hf_distill.teachers.hub_revisions import resolve_hub_spec
from hf_distill.teachers.revision_spec import (
    MAIN,
    Revision,
    RevisionSpec,
    is_pattern,
    matching,
    parse_spec,
    step_of,
    step_of_source,
    those_that_exist,
)
from hf_distill.teachers.weight_files import content_hash, stamp_of, weight_files, weights_format, weights_hash

__all__ = ["Revision", "check_unchanged", "folder_of", "resolve_revisions"]

logger = logging.getLogger(__name__)

FINAL = "final"
_READERS = 4


def resolve_revisions(
    spec: str | Path | Sequence[str | Path],
    *,
    token: str | None = None,
    allow_pickled_weights: bool = False,
    cache_dir: str | Path | None = None,
) -> list[Revision]:
    """Return the revisions that a teacher sequence names, in order, each pinned to its commit or content.

    An entry of `spec` is

    - a Trainer output folder: its `checkpoint-*` by step, then the final model where it is newer than the last of
      them and another one; `folder@checkpoint-100,final` chooses among its sub-folders;
    - a folder that holds one model;
    - `org/model` (its main branch), `org/model@step100,main`, `org/model@step*` (branches and tags by step),
      `org/model:checkpoint-*` (sub-folders), `org/model-step_{20,40}k` (one model each).

    Args:
        spec: One entry or a list of entries.
        token: For private repositories; appears in no message.
        allow_pickled_weights: Accept a revision that has no safetensors.
        cache_dir: The Hub cache to use; None means the Hub client's own.

    Raises:
        ValueError: A revision does not exist (those that do are listed), is half-written, has pickled weights only, or
            is not in the cache while the Hub cannot be reached. Nothing is ever left out silently.
    """
    entries = [spec] if isinstance(spec, (str, Path)) else list(spec)
    if not entries:
        raise ValueError("the teacher is an empty list; expected folders, model ids or `org/model@revision`")
    specs = [one for entry in entries for one in parse_spec(entry)]
    found: list[Revision] = []
    for one in specs:
        if one.is_folder:
            revisions = _resolve_folder(one, allow_pickled_weights=allow_pickled_weights)
        else:
            revisions = resolve_hub_spec(
                one, token=token, cache_dir=cache_dir, allow_pickled_weights=allow_pickled_weights
            )
        whole_models = len(specs) > 1 and not (one.revisions or one.subfolders)
        found += [_named_after_source(revision) if whole_models else revision for revision in revisions]
    return _distinct(found)


def folder_of(
    revision: Revision,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    allow_pickled_weights: bool = False,
    show_progress: bool = True,
) -> Path:
    """Return the folder with config.json and weights; a Hub revision is downloaded where the cache lacks it.

    Raises:
        ValueError: The folder is gone or not whole, or the revision cannot be downloaded.
    """
    if revision.revision is not None:
        return download(
            revision,
            token=token,
            cache_dir=cache_dir,
            allow_pickled_weights=allow_pickled_weights,
            show_progress=show_progress,
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


def _resolve_folder(spec: RevisionSpec, *, allow_pickled_weights: bool) -> list[Revision]:
    root = Path(spec.source).expanduser()
    chosen = [*spec.revisions, *spec.subfolders]
    folders = _chosen_folders(root, chosen) if chosen else {path.name: path for path in checkpoints_in(root)}
    folders = folders or {root.resolve().name: root}
    problems = {
        name: problem
        for name, path in folders.items()
        if (problem := whole_checkpoint_problem(path, allow_pickled_weights=allow_pickled_weights))
    }
    if problems:
        raise ValueError("\n".join(_refused(root, folders[name], problem) for name, problem in problems.items()))
    with ThreadPoolExecutor(_READERS) as pool:
        revisions = list(pool.map(lambda item: _pinned_folder(spec, *item), folders.items()))
    if not chosen and folders != {root.resolve().name: root}:
        final = _final_model(spec, root, revisions[-1], allow_pickled_weights=allow_pickled_weights)
        revisions += [final] if final else []
    return revisions


def _refused(root: Path, path: Path, problem: str) -> str:
    if path == root:
        inside = [child.name for child in sorted(root.iterdir()) if weights_format(child)]
        hint = f" It has sub-folders that do: write {root}@{','.join(inside[:2])} or {root}@PATTERN." if inside else ""
        return f"{root} holds neither checkpoint-* folders nor a whole model: {problem}.{hint}"
    return (
        f"{path.name} in {root} is not a whole checkpoint: {problem}. Delete that folder, save it again, or choose "
        f"others with {root}@NAME,NAME"
    )


def _chosen_folders(root: Path, chosen: Sequence[str]) -> dict[str, Path]:
    known = {path.relative_to(root).as_posix(): path for path in root.iterdir() if path.is_dir()}
    if FINAL not in known and weights_format(root):
        known[FINAL] = root
    folders: dict[str, Path] = {}
    for asked in chosen:
        names = matching(known, asked) if is_pattern(asked) else [asked]
        missing = [name for name in names if name not in known and not (root / name).is_dir()]
        if missing or not names:
            raise ValueError(f"{root} has no folder {asked!r}. There: {those_that_exist(known, asked)}")
        folders.update({name: known.get(name, root / name) for name in names if name not in folders})
    return folders


def _pinned_folder(spec: RevisionSpec, name: str, path: Path) -> Revision:
    inside = path != Path(spec.source).expanduser()
    return Revision(
        name=name,
        step=step_of(name) if inside else step_of_source(name),
        source=spec.source,
        revision=None,
        # The stamp is taken first: a file that changes while it is hashed then fails the later comparison.
        stamp=stamp_of(path),
        commit=content_hash(path),
        folder=path,
    )


def _final_model(spec: RevisionSpec, root: Path, last: Revision, *, allow_pickled_weights: bool) -> Revision | None:
    """Return the model that the Trainer saved at the end, or None where there is none that adds to the checkpoints.

    An identical one would teach the last checkpoint twice, an older one was left by an earlier, shorter run.
    """
    assert last.folder is not None
    if weights_format(root) is None:
        return None
    problem = whole_checkpoint_problem(root, allow_pickled_weights=allow_pickled_weights)
    if problem:
        raise ValueError(f"the final model in {root} is not whole: {problem}. Delete its files or save it again")
    if weights_hash(root) == weights_hash(last.folder):
        return None
    step, last_step = _step_reached(root), _step_reached(last.folder)
    newer = _written(root) >= _written(last.folder) if step is None or last_step is None else step >= last_step
    if not newer:
        logger.warning("The model in %s is older than %s and is left out of the teacher sequence", root, last.name)
        return None
    # With `load_best_model_at_end` the final model is that of an earlier step than the Trainer reached.
    beyond = step is not None and last.step is not None and step > last.step
    return replace(_pinned_folder(spec, FINAL, root), step=step if beyond else None)


def _step_reached(folder: Path) -> int | None:
    if json_problem(folder / TRAINER_STATE):
        return None
    step = json.loads((folder / TRAINER_STATE).read_text(encoding="utf-8")).get("global_step")
    return step if isinstance(step, int) else None


def _written(folder: Path) -> int:
    return max(path.stat().st_mtime_ns for path in weight_files(folder))


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
