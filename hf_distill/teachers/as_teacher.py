"""What a trainer's `teacher` argument may be."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from hf_distill.teachers.base import TeacherSource
from hf_distill.teachers.live import LiveTeacher
from hf_distill.teachers.sequence import TeacherSequence


def as_teacher(teacher: TeacherSource | PreTrainedModel | str | Path | list[str] | None) -> TeacherSource | None:
    """Return `teacher` as a teacher source: a loaded model or a specification is wrapped."""
    if teacher is None or isinstance(teacher, TeacherSource):
        return teacher
    if isinstance(teacher, PreTrainedModel):
        return LiveTeacher(teacher)
    return TeacherSequence(teacher)
