"""A student's folder: weights, configuration, tokenizer and origin, written beside and put in place at once."""

from __future__ import annotations

import os
import secrets
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

from hf_distill.atomic import atomic_write_json
from hf_distill.strict_dataclass import to_mapping
from hf_distill.student_making.cut import StudentCut
from hf_distill.student_making.making import MadeStudent
from hf_distill.student_making.origin import ORIGIN_FILE, StudentOrigin

BESIDE = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "*.spm",
    "chat_template*",
    "preprocessor_config.json",
)
"""Files of a teacher that its student needs too, as they are."""


def save_student(made: MadeStudent, folder: str | Path, *, beside: str | Path | None = None) -> Path:
    """Write a student; the folder holds all of it or does not change.

    Args:
        made: The student.
        folder: Where it goes: a folder that is not there, or empty.
        beside: The teacher's folder, whose tokenizer files are copied.

    Raises:
        ValueError: The folder holds something.
    """
    target = Path(folder)
    refuse_what_is_there(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.parent / f".{target.name[:100]}.{secrets.token_hex(8)}.tmp"
    try:
        made.model.save_pretrained(scratch)
        for file in sorted(Path(beside).iterdir()) if beside is not None else []:
            if file.is_file() and any(fnmatchcase(file.name, pattern) for pattern in BESIDE):
                shutil.copyfile(file, scratch / file.name)
        atomic_write_json(scratch / ORIGIN_FILE, made.origin.to_dict())
        os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def refuse_what_is_there(folder: Path) -> None:
    """Refuse a folder that holds something.

    Raises:
        ValueError: It does, or is a file.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise ValueError(f"{folder} is there and not empty; nothing was changed. Give another folder, or move it away")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give a folder that is not there yet")


def student_there(
    folder: str | Path, *, commit: str, cut: StudentCut, data: str | None = None
) -> StudentOrigin | None:
    """Return the origin of the student in a folder, if it was cut out of this teacher in this way.

    Args:
        folder: Where to look.
        commit: Pin of the teacher.
        cut: What is kept.
        data: What layers or units are chosen by.
    """
    if not (Path(folder) / ORIGIN_FILE).is_file():
        return None
    found = StudentOrigin.load(folder)
    return found if (found.commit, found.cut, found.data) == (commit, to_mapping(cut), data) else None
