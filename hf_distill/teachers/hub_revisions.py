"""Revisions of a model on the Hub or in its cache: patterns matched, names pinned to commits, weights looked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from hf_distill.teachers.checkpoint_files import file_list_problem, pickled_only, whole_checkpoint_problem
from hf_distill.teachers.hub_history import is_history, read_history
from hf_distill.teachers.hub_repository import ASKING, ModelRepository
from hf_distill.teachers.retry import Backoff
from hf_distill.teachers.revision_spec import (
    MAIN,
    Revision,
    RevisionSpec,
    is_pattern,
    matching,
    step_of,
    step_of_source,
    those_that_exist,
)

Answer = TypeVar("Answer")
Item = TypeVar("Item")
_CONNECTIONS = 8
_MOST_PROBLEMS = 5


class Resolution(NamedTuple):
    """Pinned revisions, in order, and for people what was left out of a history."""

    revisions: list[Revision]
    notes: list[str]


class _Pin(NamedTuple):
    name: str
    asked: str
    commit: str
    step: int | None


def resolve_hub_spec(
    spec: RevisionSpec,
    *,
    token: str | None = None,
    cache_dir: str | Path | None = None,
    allow_pickled_weights: bool = False,
    backoff: Backoff = ASKING,
) -> Resolution:
    """Pin the revisions that one entry names, in its order; those of a pattern by step, of a history by age.

    Raises:
        ValueError: A revision is missing, holds no usable weights, or is not in the cache while the Hub is out of
            reach. All revisions are looked at, so that one message names all that is wrong.
        HubUnavailable: The Hub answers with errors.
    """
    repository = ModelRepository(spec.source, token=token, cache_dir=cache_dir, backoff=backoff)
    pins, notes = _pins(repository, spec, allow_pickled_weights=allow_pickled_weights)
    several = len(pins) > 1
    revisions = [
        _unlocated(spec, pin, subfolder, several=several)
        for pin in pins
        for subfolder in _subfolders(repository, pin.commit, spec)
    ]
    located = _each(
        lambda revision: _located(repository, revision, allow_pickled_weights=allow_pickled_weights), revisions
    )
    return Resolution(located, notes)


def _pins(
    repository: ModelRepository, spec: RevisionSpec, *, allow_pickled_weights: bool
) -> tuple[list[_Pin], list[str]]:
    asked = spec.revisions or (MAIN,)
    histories = [name for name in asked if is_history(name)]
    if not histories:
        commits = _commits(repository, asked)
        return [_Pin(name, name, commit, step_of(name)) for name, commit in commits.items()], []
    if len(asked) > 1 or spec.subfolders:
        raise ValueError(
            f"teacher {spec.text!r}: a history such as {histories[0]} stands alone; write the rest as further entries "
            "of a list"
        )
    history = read_history(repository, asked[0], each=_each, allow_pickled_weights=allow_pickled_weights)
    pins = [_Pin(one.name, one.commit, one.commit, one.step) for one in history.revisions]
    return pins, [history.note(f"{spec.source}@{asked[0]}")]


def _commits(repository: ModelRepository, asked: Sequence[str]) -> dict[str, str]:
    """Return revision name -> commit, in order, patterns replaced by the names they match."""
    chosen: dict[str, bool] = {}
    for name in asked:
        for match in _matches(repository, name) if is_pattern(name) else [name]:
            chosen[match] = chosen.get(match, True) and is_pattern(name)
    names = list(chosen)
    pinned: dict[str, str] = {}
    for name, commit in zip(names, _each(repository.commit_of, names), strict=True):
        # A pattern such as "*" also finds "main", which mostly is the last numbered revision once more.
        if not (chosen[name] and step_of(name) is None and commit in pinned.values()):
            pinned[name] = commit
    return pinned


def _matches(repository: ModelRepository, pattern: str) -> list[str]:
    found = matching(repository.names, pattern)
    if found:
        return found
    where = f"in the cache (the Hub cannot be reached: {repository.unreachable})" if repository.unreachable else ""
    hint = f" Download one while online: {repository.download_command('NAME')}" if repository.unreachable else ""
    raise ValueError(
        f"no branch or tag of {repository.source} matches {pattern!r} {where}".rstrip()
        + f". There: {those_that_exist(repository.names, pattern)}.{hint}"
    )


def _subfolders(repository: ModelRepository, commit: str, spec: RevisionSpec) -> Iterator[str | None]:
    if not spec.subfolders:
        yield None
        return
    folders = {name.rpartition("/")[0] for name in repository.entries(commit)} - {""}
    for asked in spec.subfolders:
        found = matching(folders, asked) if is_pattern(asked) else sorted({asked} & folders)
        if not found:
            raise ValueError(
                f"{spec.source} at {commit[:8]} has no folder {asked!r}. Folders: {those_that_exist(folders, asked)}"
            )
        yield from found


def _unlocated(spec: RevisionSpec, pin: _Pin, subfolder: str | None, *, several: bool) -> Revision:
    label = pin.name
    if subfolder:
        label = f"{pin.name}:{subfolder}" if several else subfolder
    step = step_of(subfolder) if subfolder else pin.step
    if label == MAIN and pin.step is None:
        step = step_of_source(spec.source.rpartition("/")[2])
    return Revision(
        name=label, step=step, source=spec.source, revision=pin.asked, commit=pin.commit, subfolder=subfolder
    )


def _located(repository: ModelRepository, revision: Revision, *, allow_pickled_weights: bool) -> Revision:
    """Return the revision with its folder where the cache has it whole; refuse one that cannot be had or used."""
    folder = repository.snapshot(revision.commit) / (revision.subfolder or "")
    problem = whole_checkpoint_problem(folder, allow_pickled_weights=allow_pickled_weights)
    if problem is None:
        return replace(revision, folder=folder)
    inside = f"{revision.subfolder}/" if revision.subfolder else ""
    names = [name[len(inside) :] for name in repository.entries(revision.commit) if name.startswith(inside)]
    refused = file_list_problem(names, allow_pickled_weights=allow_pickled_weights)
    if repository.unreachable and not (pickled_only(names) and refused):
        command = repository.download_command(revision.revision or MAIN, revision.subfolder)
        raise ValueError(
            f"{revision} is not whole in the cache ({problem}) and the Hub cannot be reached "
            f"({repository.unreachable}). Download it while online: {command}"
        )
    if refused:
        raise ValueError(f"{revision} cannot be a teacher: {refused}")
    return revision


def _each(work: Callable[[Item], Answer], items: Iterable[Item]) -> list[Answer]:
    """Return `work` of every item, several at a time, or raise one error that tells the problems of all of them."""
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        running = [pool.submit(work, item) for item in items]
    errors = [error for error in (future.exception() for future in running) if error is not None]
    if len(errors) > 1 and all(isinstance(error, ValueError) for error in errors):
        more = f"\n… and {len(errors) - _MOST_PROBLEMS} more" if len(errors) > _MOST_PROBLEMS else ""
        raise ValueError("\n".join(map(str, errors[:_MOST_PROBLEMS])) + more)
    return [future.result() for future in running]
