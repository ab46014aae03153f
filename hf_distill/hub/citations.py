"""BibTeX of the methods a student was trained with, chosen by what taught it."""

from __future__ import annotations

from hf_distill.run_record import StudentRun

DISTILLATION = """@misc{hinton2015distilling,
  title = {Distilling the Knowledge in a Neural Network},
  author = {Geoffrey Hinton and Oriol Vinyals and Jeff Dean},
  year = {2015},
  eprint = {1503.02531},
  archivePrefix = {arXiv}
}"""

PROGRESSIVE = """@misc{panigrahi2024progressive,
  title = {Progressive distillation induces an implicit curriculum},
  author = {Abhishek Panigrahi and Bingbin Liu and Sadhika Malladi and Andrej Risteski and Surbhi Goel},
  year = {2024},
  eprint = {2410.05464},
  archivePrefix = {arXiv}
}"""


def citations(run: StudentRun) -> list[str]:
    """Return the entries for a student: none without a teacher, the second one if several revisions taught."""
    revisions = taught_by(run)
    return [DISTILLATION, PROGRESSIVE][: min(len(revisions), 2)]


def taught_by(run: StudentRun) -> list[str]:
    """Return the names of the revisions that taught a student, in order, each once."""
    return list(dict.fromkeys(stage.revision for stage in run.stages if stage.revision is not None))
