"""A branch's commits as revisions, `org/model@main~*`: what `hub_strategy: every_save` leaves of a training."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hf_distill.atomic import atomic_write_json
from hf_distill.teachers.checkpoint_files import file_list_problem
from hf_distill.teachers.hub_repository import FileEntry, HistoryEntry, ModelRepository
from hf_distill.teachers.revision_spec import is_pattern

HISTORY = "~*"
_STEP = re.compile(r"\bstep[\s_-]*(\d+)\b", re.IGNORECASE)
_WEIGHTS = (".safetensors", ".bin", "config.json", ".index.json")
_FOLDER = "histories"
"""Beside `refs` and `snapshots` of the cache: the client does not keep histories."""


@dataclass(frozen=True, kw_only=True)
class HistoryRevision:
    """A commit that brought new weights.

    Attributes:
        name: "step500" where the commit's title tells the step, else the branch (its newest commit) or a short hash.
        step: That step, or None.
        commit: Its hash.
        date: When it was made, in ISO format.
    """

    name: str
    step: int | None
    commit: str
    date: str


@dataclass(frozen=True, kw_only=True)
class History:
    """The revisions in a branch's history, oldest first.

    Attributes:
        revisions: Commits with a whole model that differs from the one before.
        without_model: How many commits hold no model.
        unchanged: How many changed something else than the model, such as its card.
    """

    revisions: list[HistoryRevision]
    without_model: int
    unchanged: int

    def note(self, name: str) -> str:
        """Return what was left out, in one sentence."""
        return (
            f"{name}: {len(self.revisions)} commits brought a model; left out: {self.without_model} without a model, "
            f"{self.unchanged} that leave it unchanged"
        )


def is_history(name: str) -> bool:
    """Whether a revision is written as the history of a branch: git allows no "~" in names."""
    return name.endswith(HISTORY) and len(name) > len(HISTORY)


def read_history(
    repository: ModelRepository,
    name: str,
    *,
    each: Callable[[Callable[[str], dict[str, FileEntry]], Iterable[str]], list[dict[str, FileEntry]]],
    allow_pickled_weights: bool = False,
) -> History:
    """Return the revisions in a branch's history; without the Hub, as they were when it was last asked.

    Args:
        repository: Where the branch is.
        name: "main~*".
        each: Maps a function over commits, several at a time.
        allow_pickled_weights: Count commits without safetensors as well.

    Raises:
        ValueError: There is no such branch, it never held a model, or its history is not known offline.
    """
    branch = name.removesuffix(HISTORY)
    if is_pattern(branch):
        raise ValueError(f"{repository.source}@{name}: give one branch before {HISTORY}, such as main{HISTORY}")
    commits = repository.history(branch)
    file = repository.storage / _FOLDER / f"{branch.replace('/', '--')}.json"
    if commits is None:
        return _kept(repository, name, file)
    entries = each(repository.entries, [commit.commit for commit in commits])
    history = _with_models(branch, commits, entries, allow_pickled_weights=allow_pickled_weights)
    if not history.revisions:
        raise ValueError(f"no commit of {branch} of {repository.source} holds a whole model ({len(commits)} commits)")
    atomic_write_json(file, asdict(history))
    return history


def step_of_title(title: str) -> int | None:
    """Return the step in a commit's title, as in the Trainer's "Training in progress, step 500"."""
    found = _STEP.findall(title)
    return int(found[-1]) if found else None


def _with_models(
    branch: str,
    commits: Sequence[HistoryEntry],
    entries: Sequence[dict[str, FileEntry]],
    *,
    allow_pickled_weights: bool,
) -> History:
    chosen: list[HistoryEntry] = []
    without, unchanged = 0, 0
    before: frozenset[tuple[str, FileEntry]] | None = None
    for commit, files in zip(commits, entries, strict=True):
        here = {name: entry for name, entry in files.items() if "/" not in name}
        if file_list_problem(here, allow_pickled_weights=allow_pickled_weights):
            without += 1
            continue
        model = frozenset((name, entry) for name, entry in here.items() if name.endswith(_WEIGHTS))
        if model == before:
            unchanged += 1
            continue
        before = model
        chosen.append(commit)
    return History(revisions=_named(branch, chosen), without_model=without, unchanged=unchanged)


def _named(branch: str, commits: Sequence[HistoryEntry]) -> list[HistoryRevision]:
    steps = [step_of_title(commit.title) for commit in commits]
    times = Counter(steps)
    named = []
    for commit, step in zip(commits, steps, strict=True):
        name = commit.commit[:8]
        if step is not None:
            name = f"step{step}" if times[step] == 1 else f"step{step}-{name}"
        elif commit is commits[-1]:
            name = branch
        date = commit.date.isoformat()
        named.append(HistoryRevision(name=name, step=step, commit=commit.commit, date=date))
    return named


def _kept(repository: ModelRepository, name: str, file: Path) -> History:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        revisions = [HistoryRevision(**revision) for revision in kept.pop("revisions")]
        return History(revisions=revisions, **kept)
    except (OSError, ValueError, TypeError, KeyError):
        raise ValueError(
            f"the history of {repository.source}@{name} is not in the cache and the Hub cannot be reached "
            f"({repository.unreachable}). While online, run: hf-distill teachers list '{repository.source}@{name}'"
        ) from None
