"""Hugging Face Trainer extension for LLM compression: students that learn from their teacher's own checkpoints."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "ProgressiveDistillConfig": "hf_distill.config",
    "ProgressiveDistillTrainer": "hf_distill.trainer",
    "ProgressiveDistillSeq2SeqConfig": "hf_distill.seq2seq_trainer",
    "ProgressiveDistillSeq2SeqTrainer": "hf_distill.seq2seq_trainer",
    "TeacherSequence": "hf_distill.teachers",
    "LiveTeacher": "hf_distill.teachers",
    "Recipe": "hf_distill.recipe.recipe",
    "RunRecord": "hf_distill.run_record",
    "StudentCut": "hf_distill.student_making.cut",
    "make_student": "hf_distill.student_making.making",
    "run_recipe": "hf_distill.pipeline.run",
}

__all__ = ["__version__", *_EXPORTS]

if TYPE_CHECKING:
    from hf_distill.config import ProgressiveDistillConfig as ProgressiveDistillConfig
    from hf_distill.pipeline.run import run_recipe as run_recipe
    from hf_distill.recipe.recipe import Recipe as Recipe
    from hf_distill.run_record import RunRecord as RunRecord
    from hf_distill.seq2seq_trainer import ProgressiveDistillSeq2SeqConfig as ProgressiveDistillSeq2SeqConfig
    from hf_distill.seq2seq_trainer import ProgressiveDistillSeq2SeqTrainer as ProgressiveDistillSeq2SeqTrainer
    from hf_distill.student_making.cut import StudentCut as StudentCut
    from hf_distill.student_making.making import make_student as make_student
    from hf_distill.teachers import LiveTeacher as LiveTeacher
    from hf_distill.teachers import TeacherSequence as TeacherSequence
    from hf_distill.trainer import ProgressiveDistillTrainer as ProgressiveDistillTrainer


def __getattr__(name: str) -> Any:
    """Import a public name on first use, so that `import hf_distill` costs milliseconds."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'hf_distill' has no attribute {name!r}; public names: {', '.join(__all__)}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
