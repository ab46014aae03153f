"""`hf-distill teachers score`: the teacher of a recipe, revision by revision, without training students."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_distill.analysis.checkpoint_selection import plot_transition
from hf_distill.analysis.revision_scores import transition_of
from hf_distill.pipeline.cells import build_trainer, distilled_cells_of, task_of
from hf_distill.pipeline.checks import check_keys
from hf_distill.pipeline.teacher import open_teacher, scores_of, train_teacher
from hf_distill.pipeline.workspace import Workspace
from hf_distill.recipe.recipe import Recipe


@dataclass(frozen=True)
class TeacherScores:
    """Held-out scores of a teacher's revisions.

    Attributes:
        scores: {"name", "step", "loss", ...} for each revision.
        chosen: The revision in the middle of the sharp drop, or None.
        reason: Why, or why there is none.
        picture: The curve, where there is a drop.
    """

    scores: list[dict[str, Any]]
    chosen: str | None
    reason: str
    picture: Path | None


def score_teacher(recipe: Recipe) -> TeacherScores:
    """Score the revisions of a recipe's teacher on its held-out data; train the teacher first if need be.

    Raises:
        ValueError: The recipe has no teacher, or cannot be run.
    """
    if recipe.teacher is None:
        raise ValueError("this recipe has no teacher to score; give it `teacher.source` or `teacher.train`")
    if not recipe.teacher.is_one_model:
        raise ValueError(
            "this recipe's students do not learn from one teacher's revisions, so there are none to score and to "
            "choose among; `hf-distill run` it and look at its report"
        )
    task, workspace, cells = task_of(recipe), Workspace(Path(recipe.output_dir)), distilled_cells_of(recipe)
    check_keys(recipe)
    workspace.claim(recipe, write=True)
    # Before the teacher is trained: the student's model and data may be refused.
    trainer = build_trainer(cells[0], recipe, task, None, workspace, labels_only=True)
    if recipe.teacher.train is not None:
        train_teacher(recipe, task, workspace)
    teacher = open_teacher(recipe, workspace)
    teacher.attach(head=trainer.distillation.head, accelerator=trainer.accelerator)
    data = task.prepare(seed=cells[0].seed, cache_dir=workspace.cache)
    scores = scores_of(teacher, trainer, workspace.root, data=data.fingerprint)
    try:
        info = transition_of(scores)
    except ValueError as error:
        return TeacherScores(scores, None, str(error), None)
    picture = workspace.root / "teacher_scores.png"
    plot_transition(info, picture)
    return TeacherScores(scores, str(scores[info.chosen]["name"]), info.reason, picture)
