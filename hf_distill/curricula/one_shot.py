"""One stage for the whole run: labels only, or the final teacher."""

from __future__ import annotations

from dataclasses import dataclass

from hf_distill.curricula.base import CURRICULA, Curriculum, label_terms
from hf_distill.curricula.plan import Plan, PlanContext, Stage


@CURRICULA.register("labels")
@dataclass(frozen=True, kw_only=True)
class Labels(Curriculum):
    """No teacher: the baseline every comparison shows."""

    def __post_init__(self) -> None:
        if self.objectives is not None:
            raise ValueError("the `labels` curriculum has no teacher and takes no `objectives`; use `one_shot`")
        if self.temperature != 1.0 or self.label_mix != 0.0:
            raise ValueError("the `labels` curriculum has no teacher: `temperature` and `label_mix` would do nothing")

    @property
    def uses_teacher(self) -> bool:
        """Whether any stage runs a teacher: never."""
        return False

    def plan(self, context: PlanContext) -> Plan:
        """Lay out the one stage."""
        return Plan(stages=(Stage(name="labels", terms=label_terms(context)),))


@CURRICULA.register("one_shot")
@dataclass(frozen=True, kw_only=True)
class OneShot(Curriculum):
    """The final teacher for the whole run: usual knowledge distillation."""

    def plan(self, context: PlanContext) -> Plan:
        """Lay out the one stage."""
        return Plan(stages=(final_stage(self, context),))


def final_stage(curriculum: Curriculum, context: PlanContext) -> Stage:
    """Return the stage that learns from the last revision.

    Raises:
        ValueError: There is no teacher.
    """
    if not context.revisions:
        raise ValueError("this curriculum learns from a teacher, but none is given; pass `teacher` or use `labels`")
    return Stage(name="final", terms=curriculum.teacher_terms(context), revision=len(context.revisions) - 1)
