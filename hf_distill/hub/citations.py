"""BibTeX of the methods a student was trained with, chosen by what taught it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_distill.bibliography import BIBLIOGRAPHY
from hf_distill.run_record import StudentRun

DISTILLATION = "1503.02531"
PROGRESSIVE = "2410.05464"

OF_TEACHERS = {"assistant": "1902.03393", "ladder": "2209.07606", "pruned_mix": "2311.13934", "ema": "1703.01780"}
"""By the kind of the teacher; others have no paper of their own."""


def citations(run: StudentRun, teacher: Mapping[str, Any] | None = None) -> list[str]:
    """Return the BibTeX entries for a student, each once.

    Distillation is cited if anybody taught, progressive distillation if several revisions did; then the papers of the
    student's curriculum, objectives, passes and views; last that of its kind of teacher.

    Args:
        run: The student.
        teacher: The record's block of its teacher, whose kind may have a paper of its own.
    """
    papers = [DISTILLATION, PROGRESSIVE][: min(len(taught_by(run)), 2)]
    kind = str((teacher or {}).get("kind"))
    own = [OF_TEACHERS[kind]] if papers and kind in OF_TEACHERS else []
    # A record of another version may know papers that this one does not.
    found = dict.fromkeys(paper for paper in (*papers, *run.papers, *own) if paper in BIBLIOGRAPHY)
    return [BIBLIOGRAPHY[paper].bibtex() for paper in found]


def taught_by(run: StudentRun) -> list[str]:
    """Return the names of the revisions that taught a student, in order, each once."""
    return list(dict.fromkeys(stage.revision for stage in run.stages if stage.revision is not None))
