"""Teacher sources: they turn a batch into targets."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Lazy, because specifications, selections and lists of revisions are read without torch.
_EXPORTS = {
    "AdapterOffTeacher": "adapter_off",
    "CachedTeacher": "cached",
    "DifficultyRouter": "router",
    "EmaTeacher": "ema",
    "EnsembleTeacher": "ensemble",
    "LadderTeacher": "ladder",
    "LiveTeacher": "live",
    "PrunedMixTeacher": "pruned",
    "TeacherSequence": "sequence",
    "TeacherSource": "base",
}

__all__ = [
    "AdapterOffTeacher",
    "CachedTeacher",
    "DifficultyRouter",
    "EmaTeacher",
    "EnsembleTeacher",
    "LadderTeacher",
    "LiveTeacher",
    "PrunedMixTeacher",
    "TeacherSequence",
    "TeacherSource",
]

if TYPE_CHECKING:
    from hf_distill.teachers.adapter_off import AdapterOffTeacher as AdapterOffTeacher
    from hf_distill.teachers.base import TeacherSource as TeacherSource
    from hf_distill.teachers.cached import CachedTeacher as CachedTeacher
    from hf_distill.teachers.ema import EmaTeacher as EmaTeacher
    from hf_distill.teachers.ensemble import EnsembleTeacher as EnsembleTeacher
    from hf_distill.teachers.ladder import LadderTeacher as LadderTeacher
    from hf_distill.teachers.live import LiveTeacher as LiveTeacher
    from hf_distill.teachers.pruned import PrunedMixTeacher as PrunedMixTeacher
    from hf_distill.teachers.router import DifficultyRouter as DifficultyRouter
    from hf_distill.teachers.sequence import TeacherSequence as TeacherSequence


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'hf_distill.teachers' has no attribute {name!r}; it has {', '.join(__all__)}")
    return vars(import_module(f"hf_distill.teachers.{_EXPORTS[name]}"))[name]
