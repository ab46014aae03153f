"""How a teacher sequence is written, and what one revision of it is: "org/model@step*", a folder, "org/model:sub"."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

MAIN = "main"
COMMIT = re.compile(r"[0-9a-f]{40}")
_MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
_PATH_START = re.compile(r"[./~\\]|[A-Za-z]:[\\/]")
_COMMA = re.compile(r",(?![^{}]*\})")
_BRACES = re.compile(r"\{([^{}]*)\}")
_NUMBER = r"(\d+(?:\.\d+)?)([kKmMbB]?)(?![A-Za-z0-9.])"
_COUNTED = re.compile(r"(?:steps?|checkpoint|ckpt|iter(?:ation)?s?)[-_=]?" + _NUMBER, re.IGNORECASE)
_ANY_NUMBER = re.compile(r"(?<![\d.])" + _NUMBER)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}
_MOST_LISTED = 20


@dataclass(frozen=True, kw_only=True)
class Revision:
    """One version of a teacher, pinned.

    Args:
        name: "checkpoint-300", "step300", "main".
        step: Training step that the name tells, or None.
        source: Model id, or the folder as it was given.
        revision: Branch, tag or commit asked for; None for folders.
        commit: 40 hexadecimal digits, or "sha256:<hex>" of a folder's content.
        folder: Folder with config.json and the weights, where it is on disk already (`subfolder` included).
        subfolder: Folder inside the repository that holds the model.
        members: The revisions that this one is made of, as an ensemble is; its commit is then a hash of theirs.
        stamp: Sizes and times of a local folder's files when it was pinned: while they stay, so does the content.
    """

    name: str
    step: int | None
    source: str
    revision: str | None
    commit: str
    folder: Path | None = None
    subfolder: str | None = None
    members: tuple[Revision, ...] = ()
    stamp: tuple[tuple[str, int, int], ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        at = self.commit[:15] if self.commit.startswith("sha256:") else self.commit[:8]
        return f"{self.name} of {self.source} ({at})"


@dataclass(frozen=True, kw_only=True)
class RevisionSpec:
    """One entry of a teacher sequence, as it was written.

    Args:
        text: The entry.
        source: Folder or model id.
        is_folder: Whether `source` is a folder of this machine.
        revisions: Names or patterns after "@"; empty means the default.
        subfolders: Names or patterns after ":".
    """

    text: str
    source: str
    is_folder: bool
    revisions: tuple[str, ...] = ()
    subfolders: tuple[str, ...] = ()


def parse_spec(entry: str | Path) -> list[RevisionSpec]:
    """Read one entry of a teacher sequence; several come back only where braces stand for alternatives.

    The grammar is `source[@revision,...][:subfolder,...]`, `*`, `?` and `[...]` being wildcards in revisions and
    subfolders and `{a,b}` alternatives anywhere. A text that is the path of something on disk is that path.

    Raises:
        ValueError: The entry is empty, or neither a folder that exists nor a possible model id.
    """
    if isinstance(entry, Path) or Path(entry).expanduser().exists():
        return [_folder_spec(str(entry), str(entry), (), ())] if str(entry).strip() else _parse("")
    return _parse(entry.strip())


def expand_braces(text: str) -> list[str]:
    """Return the texts that `{a,b}` stands for, in the order written: "m-{20,40}k" is "m-20k" and "m-40k"."""
    match = _BRACES.search(text)
    if match is None:
        return [text]
    heads = [text[: match.start()] + option.strip() for option in match[1].split(",")]
    return [head + tail for head in heads for tail in expand_braces(text[match.end() :])]


def step_of(name: str) -> int | None:
    """Return the training step that a revision's name tells, or None.

    The number after "step", "checkpoint", "ckpt" or "iter" counts, otherwise the last one; k, m and b multiply:
    "stage1-step20k-tokens5B" is 20000, "v1.0" and a commit hash are None.
    """
    if COMMIT.fullmatch(name):
        return None
    counted = _COUNTED.findall(name)
    return _whole((counted or _ANY_NUMBER.findall(name) or [("", "")])[-1])


def step_of_source(name: str) -> int | None:
    """Return the training step that the name of a model or folder tells, or None.

    Stricter than `step_of`: in "pythia-70m" or "bert-L4" the number is a size.
    """
    counted = _COUNTED.findall(name) or [match.groups() for match in [re.fullmatch(_NUMBER, name)] if match]
    return _whole(counted[-1]) if counted else None


def is_pattern(text: str) -> bool:
    """Whether a name holds wildcards."""
    return any(character in text for character in "*?[")


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Return the names that fit a pattern: by step, those without a step last."""
    return sorted((name for name in names if fnmatchcase(name, pattern)), key=_by_step)


def those_that_exist(names: Iterable[str], asked: str) -> str:
    """Return the existing names for an error message, those nearest to what was asked first."""
    ordered = sorted(set(names), key=lambda name: _distance(name, asked))
    if not ordered:
        return "there are none"
    more = f" and {len(ordered) - _MOST_LISTED} more" if len(ordered) > _MOST_LISTED else ""
    return ", ".join(ordered[:_MOST_LISTED]) + more


def _parse(text: str) -> list[RevisionSpec]:
    if not text:
        raise ValueError("a teacher is given as an empty text; expected a folder, a model id or `org/model@revision`")
    rest, colon, subfolders = text.rpartition(":")
    # Names of branches and tags cannot hold a colon; the one of a drive letter belongs to the source.
    if not colon or len(rest) == 1:
        rest, subfolders = text, ""
    before, _, revisions = rest.partition("@")
    names, inside = _listed(revisions, text), _listed(subfolders, text)
    return [_spec(text, source, names, inside) for source in expand_braces(before)]


def _spec(text: str, source: str, revisions: tuple[str, ...], subfolders: tuple[str, ...]) -> RevisionSpec:
    if _is_folder(source):
        return _folder_spec(text, source, revisions, subfolders)
    if not _MODEL_ID.fullmatch(source):
        raise ValueError(f"teacher {text!r} is neither a folder on this machine nor a model id such as org/model")
    return RevisionSpec(text=text, source=source, is_folder=False, revisions=revisions, subfolders=subfolders)


def _listed(text: str, entry: str) -> tuple[str, ...]:
    if not text:
        return ()
    listed = [name for part in _COMMA.split(text) for name in expand_braces(part.strip())]
    names = tuple(dict.fromkeys(name.strip("/") for name in listed))
    for name in names:
        if not name or "@" in name or any(part in ("", ".", "..") for part in name.split("/")):
            raise ValueError(
                f"teacher {entry!r}: {name!r} is no revision or subfolder. Write `org/model@step100,step200`; several "
                "models are a list, one entry each"
            )
    return names


def _is_folder(source: str) -> bool:
    return bool(_PATH_START.match(source)) or source.count("/") > 1 or Path(source).expanduser().is_dir()


def _folder_spec(text: str, source: str, revisions: tuple[str, ...], subfolders: tuple[str, ...]) -> RevisionSpec:
    path = Path(source).expanduser()
    if not path.is_dir():
        raise ValueError(
            f"teacher {text!r}: {source} is {'a file' if path.exists() else 'not there'}; expected a folder"
        )
    return RevisionSpec(text=text, source=source, is_folder=True, revisions=revisions, subfolders=subfolders)


def _whole(number: tuple[str, str]) -> int | None:
    digits, unit = number
    if not digits or ("." in digits and not unit):
        return None
    value = float(digits) * _UNITS[unit.lower()] if "." in digits else int(digits) * _UNITS[unit.lower()]
    return int(value)


def _by_step(name: str) -> tuple[bool, int, str]:
    step = step_of(name)
    return (step is None, step or 0, name)


def _distance(name: str, asked: str) -> tuple[float, float, str]:
    unlike = 1 - difflib.SequenceMatcher(None, name, asked).ratio()
    here, there = step_of(name), step_of(asked)
    steps = abs(here - there) if here is not None and there is not None else float("inf")
    return (steps, unlike, name) if there is not None else (0, unlike, name)
