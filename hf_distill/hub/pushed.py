"""Which students of a run are on the Hub: noted when they are pushed, for the cards of what is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from hf_distill.atomic import atomic_write_json
from hf_distill.teachers.weight_files import content_hash, weights_format

PUSHED_FILE = "pushed.json"


class Pushed(NamedTuple):
    """A model as it was pushed."""

    repo_id: str
    commit: str


def note_pushed(root: Path, folder: Path, pushed: Pushed) -> None:
    """Keep in a run's folder where a model of it went, by the model's content: another push takes the name over.

    An adapter alone is not noted: nothing is fine-tuned from it.

    Args:
        root: The run's folder.
        folder: The model's.
        pushed: Where it is now.

    Raises:
        OSError: The note cannot be written.
    """
    if weights_format(folder) is None:
        return
    noted = {name: entry for name, entry in _noted(root).items() if name != pushed.repo_id}
    noted[pushed.repo_id] = {"commit": pushed.commit, "content": content_hash(folder)}
    atomic_write_json(root / PUSHED_FILE, noted)


def pushed_as(root: Path, content: str) -> Pushed | None:
    """Return where a model of a run is on the Hub, the last place if there are several; None where none is noted.

    Args:
        root: The run's folder.
        content: The model's content hash.

    Raises:
        ValueError: The notes cannot be read.
    """
    found = [Pushed(name, entry["commit"]) for name, entry in _noted(root).items() if entry["content"] == content]
    return found[-1] if found else None


def _noted(root: Path) -> dict[str, dict[str, Any]]:
    file = root / PUSHED_FILE
    if not file.is_file():
        return {}
    try:
        noted: dict[str, dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not readable JSON ({error}); delete it, and push its students again") from error
    return noted
