"""How every teacher of a recipe is looked at: its size, its revisions' held-out scores, the sharp drop among them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_distill.analysis.latency import first_example, latency_info
from hf_distill.analysis.revision_scores import transition_of
from hf_distill.pipeline.teacher import scores_of
from hf_distill.teachers import PrunedMixTeacher, TeacherSequence, TeacherSource
from hf_distill.teachers.selection import near_transition
from hf_distill.teachers.sharding import whole_numel
from hf_distill.trainer import ProgressiveDistillTrainer


@dataclass(frozen=True)
class Observer:
    """What teachers are looked at with.

    Attributes:
        trainer: Of no student's training: it hands out held-out batches.
        data: Fingerprint of the task's data.
    """

    trainer: ProgressiveDistillTrainer
    data: str

    def attach(self, teacher: TeacherSource) -> None:
        """Place a teacher and make its final revision answer."""
        teacher.attach(head=self.trainer.distillation.head, accelerator=self.trainer.accelerator)
        teacher.enter(len(teacher.revisions) - 1)

    def look(self, teacher: TeacherSource, folder: Path) -> dict[str, Any]:
        """Score a teacher's revisions on held-out data; return size, scores, final metrics and the sharp drop.

        Revisions near the transition are chosen where the teacher asks for that.

        Args:
            teacher: To be attached and scored.
            folder: Where the scores are kept.

        Raises:
            ValueError: The transition has to be found and cannot.
        """
        self.attach(teacher)
        found: dict[str, Any] = {"parameters": parameters_of(teacher)}
        if isinstance(teacher, TeacherSequence):
            found["latency"] = latency_info(teacher.model, first_example(self.trainer.get_eval_dataloader()))
        found["scores"] = scores_of(teacher, self.trainer, folder, data=self.data)
        last = found["scores"][-1]
        found["final_metrics"] = {key: value for key, value in last.items() if key not in ("name", "step")}
        return found | _transition(teacher, found["scores"])


def parameters_of(teacher: TeacherSource) -> int:
    """Return the number of a teacher's parameters, those of all its models together."""
    return sum(map(whole_numel, teacher.model.parameters()))


def _transition(teacher: TeacherSource, scores: list[dict[str, Any]]) -> dict[str, Any]:
    wanted = teacher.near_transition
    narrowed = teacher if wanted is not None and isinstance(teacher, (TeacherSequence, PrunedMixTeacher)) else None
    if len(teacher.revisions) == 1:
        if narrowed is not None:
            narrowed.narrow(narrowed.revisions)
        return {}
    try:
        info = transition_of(scores)
    except ValueError as error:
        if wanted is not None:
            raise ValueError(f"teacher.source.near_transition: {error}") from error
        return {"transition_problem": str(error)}
    name = teacher.revisions[info.chosen].name
    if narrowed is not None and wanted is not None:
        narrowed.narrow(near_transition(narrowed.revisions, info.chosen, count=wanted))
    return {"chosen": name, "reason": info.reason}
