"""Revisions in a folder of this machine: a Trainer's checkpoints and final model, chosen sub-folders, or one model."""

from __future__ import annotations

import json
import logging
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
from hf_distill.teachers.revision_spec import (
    Revision,
    RevisionSpec,
    is_pattern,
    matching,
    step_of,
    step_of_source,
    those_that_exist,
)
from hf_distill.teachers.weight_files import content_hash, stamp_of, weight_files, weights_format, weights_hash

logger = logging.getLogger(__name__)

FINAL = "final"
_READERS = 4


def resolve_folder(spec: RevisionSpec, *, allow_pickled_weights: bool = False) -> list[Revision]:
    """Pin the revisions that one entry names, by the content of their files.

    Raises:
        ValueError: A sub-folder is missing or not whole, or holds pickled weights only.
    """
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
        trained = [str(child) for child in sorted(root.iterdir()) if checkpoints_in(child)]
        hint += f" There are checkpoints in {', '.join(trained)}." if trained else ""
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
