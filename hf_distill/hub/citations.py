"""BibTeX of the methods a student was trained with, chosen by what taught it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


OF_TEACHERS = {
    "assistant": """@misc{mirzadeh2019improved,
  title = {Improved Knowledge Distillation via Teacher Assistant},
  author = {Seyed-Iman Mirzadeh and Mehrdad Farajtabar and Ang Li and Nir Levine and Akihiro Matsukawa and
            Hassan Ghasemzadeh},
  year = {2019},
  eprint = {1902.03393},
  archivePrefix = {arXiv}
}""",
    "ladder": """@misc{amara2022ceskd,
  title = {CES-KD: Curriculum-based Expert Selection for Guided Knowledge Distillation},
  author = {Ibtihel Amara and Maryam Ziaeefard and Brett H. Meyer and Warren Gross and James J. Clark},
  year = {2022},
  eprint = {2209.07606},
  archivePrefix = {arXiv}
}""",
    "pruned_mix": """@misc{kim2023robustness,
  title = {Robustness-Reinforced Knowledge Distillation with Correlation Distance and Network Pruning},
  author = {Seonghak Kim and Gyeongdo Ham and Yucheol Cho and Daeshik Kim},
  year = {2023},
  eprint = {2311.13934},
  archivePrefix = {arXiv}
}""",
    "ema": """@misc{tarvainen2017mean,
  title = {Mean teachers are better role models: Weight-averaged consistency targets improve semi-supervised deep
           learning results},
  author = {Antti Tarvainen and Harri Valpola},
  year = {2017},
  eprint = {1703.01780},
  archivePrefix = {arXiv}
}""",
}
"""By the kind of the teacher; others have no paper of their own."""


def citations(run: StudentRun, teacher: Mapping[str, Any] | None = None) -> list[str]:
    """Return the entries for a student: none without a teacher, that of progressive distillation if several taught.

    Args:
        run: The student.
        teacher: The record's block of its teacher, whose kind may have a paper of its own.
    """
    revisions = taught_by(run)
    entries = [DISTILLATION, PROGRESSIVE][: min(len(revisions), 2)]
    kind = str((teacher or {}).get("kind"))
    return [*entries, OF_TEACHERS[kind]] if entries and kind in OF_TEACHERS else entries


def taught_by(run: StudentRun) -> list[str]:
    """Return the names of the revisions that taught a student, in order, each once."""
    return list(dict.fromkeys(stage.revision for stage in run.stages if stage.revision is not None))
