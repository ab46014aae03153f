"""Teacher sources: they turn a batch into targets."""

from __future__ import annotations

from hf_distill.teachers.base import TeacherSource
from hf_distill.teachers.live import LiveTeacher
from hf_distill.teachers.sequence import TeacherSequence

__all__ = ["LiveTeacher", "TeacherSequence", "TeacherSource"]
