"""Progressive distillation: the teacher's own training checkpoints in order (Panigrahi et al. 2024, 2410.05464)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from hf_distill.curricula.base import CURRICULA, Curriculum, find_revision, stage_length
from hf_distill.curricula.one_shot import final_stage
from hf_distill.curricula.plan import Plan, PlanContext, RevisionLike, Stage

AUTO = "auto"


@CURRICULA.register("two_shot")
@dataclass(frozen=True, kw_only=True)
class TwoShot(Curriculum):
    """One revision from the middle of the teacher's sharp drop for T steps, then the final teacher: "(2, T)".

    `revision: auto` scores every revision on held-out data first and takes the one in the middle of the drop
    (`hf-distill teachers score`). A revision from before the drop teaches nothing and costs its T steps.
    """

    papers: ClassVar[tuple[str, ...]] = ("2410.05464",)

    revision: str | int = field(default=AUTO, metadata={"help": "name or step of the first revision, or `auto`"})
    steps: int | None = field(default=None, metadata={"help": "length T of the first stage in optimizer steps"})
    share: float | None = field(default=None, metadata={"help": "length of the first stage as a share of the run"})

    @property
    def needs_scores(self) -> bool:
        """Whether the revision is still `auto`."""
        return self.revision == AUTO

    def with_chosen(self, name: str) -> TwoShot:
        """Return the curriculum with the revision `name` first."""
        return replace(self, revision=name)

    def plan(self, context: PlanContext) -> Plan:
        """Lay out the two stages.

        Raises:
            ValueError: `revision` is still `auto`, does not exist or is the final one; the stage is too long.
        """
        final = final_stage(self, context)
        if self.revision == AUTO:
            raise ValueError(
                "two_shot: revision `auto` must be resolved before planning; run `hf-distill teachers score` and name "
                "the revision, or give the trainer an eval_dataset so that it can score them"
            )
        first = find_revision(self.revision, context.revisions, what="two_shot.revision")
        if first == final.revision:
            raise ValueError(
                f"two_shot: {context.revisions[first].name!r} is the final teacher itself; name an earlier revision "
                "or use one_shot"
            )
        share = 0.25 if self.steps is None and self.share is None else self.share
        length = stage_length(self.steps, share, context.max_steps, what="two_shot")
        opening = Stage(name=context.revisions[first].name, terms=final.terms, revision=first)
        return Plan(stages=(opening, final), switches=[length])


@CURRICULA.register("n_shot")
@dataclass(frozen=True, kw_only=True)
class NShot(Curriculum):
    """Each revision in turn, following the teacher's own pace times a speed factor, then the final teacher.

    At student step g the teacher step s·(1 + ⌊g/R⌋)·R is asked for (s ≥ 1), or (1 + ⌊s·⌊g/R⌋⌋)·R (s < 1), where R is
    the interval; a missing step falls back to the largest earlier revision, and before the first one to the first.
    The teacher is so always one interval ahead. Without an `interval` the revisions share the run evenly, each for
    `steps` steps if that is given.
    """

    papers: ClassVar[tuple[str, ...]] = ("2410.05464",)

    interval: int | None = field(default=None, metadata={"help": "R: student steps between two looks at the teacher"})
    speed: float = field(default=1.0, metadata={"help": "s: teacher steps per student step"})
    steps: int | None = field(default=None, metadata={"help": "instead of `interval`: steps for each revision"})
    revisions: list[str | int] | None = field(
        default=None, metadata={"help": "names or steps to use, in order; default all (the final one is always last)"}
    )

    def __post_init__(self) -> None:
        if self.interval is not None and self.steps is not None:
            raise ValueError("n_shot: give `interval` (the teacher's pace) or `steps` (a fixed length), not both")
        for name, number in (("interval", self.interval), ("steps", self.steps), ("speed", self.speed)):
            if number is not None and number <= 0:
                raise ValueError(f"n_shot: `{name}` must be positive, got {number:g}")
        if self.interval is None and self.speed != 1.0:
            raise ValueError("n_shot: `speed` only means something with an `interval`")

    def plan(self, context: PlanContext) -> Plan:
        """Lay out one stage for each revision that is reached.

        Raises:
            ValueError: A named revision does not exist, or an interval is given but the names tell no steps.
        """
        final = final_stage(self, context)
        assert final.revision is not None
        order = chosen_revisions(self.revisions, context.revisions, final.revision, what="n_shot.revisions")
        if self.interval is not None:
            changes = self._follow(order, context)
        else:
            length = self.steps or max(context.max_steps // len(order), 1)
            if (len(order) - 1) * length >= context.max_steps:
                raise ValueError(
                    f"n_shot: {len(order) - 1} revisions for {length} steps each leave none of the run's "
                    f"{context.max_steps} steps to the final teacher; lower `steps`, choose fewer `revisions` or "
                    "train longer"
                )
            changes = [(position * length, index) for position, index in enumerate(order)]
        stages = tuple(
            Stage(name="final" if index == final.revision else context.revisions[index].name,
                  terms=final.terms, revision=index)
            for _, index in changes
        )  # fmt: skip
        return Plan(stages=stages, switches=[step for step, _ in changes[1:]])

    def _follow(self, order: Sequence[int], context: PlanContext) -> list[tuple[int, int]]:
        """Return (first step, revision) at each change, by the mapping of the class docstring."""
        assert self.interval is not None
        steps = [context.revisions[index].step for index in order]
        # The final model of a folder often carries no step in its name; it then stands for "after all others".
        numbered = [(step, index) for step, index in zip(steps, order, strict=True) if step is not None]
        if any(step is None for step in steps[:-1]):
            names = ", ".join(context.revisions[i].name for i, s in zip(order, steps, strict=True) if s is None)
            raise ValueError(f"n_shot: `interval` needs a step in each revision's name; none in: {names}. Use `steps`")
        if not numbered:
            return [(0, order[-1])]
        changes: list[tuple[int, int]] = []
        for block in range(-(-context.max_steps // self.interval)):
            asked = teacher_step(block * self.interval, interval=self.interval, speed=self.speed)
            beyond = asked > numbered[-1][0]
            index = order[-1] if beyond else _latest(numbered, asked)
            if not changes or changes[-1][1] != index:
                changes.append((block * self.interval, index))
        return changes


def teacher_step(student_step: int, *, interval: int, speed: float) -> int:
    """Return the teacher step asked for at a student step (2410.05464's code; see `NShot`).

    Args:
        student_step: Optimizer step g of the student, from 0.
        interval: R.
        speed: s.
    """
    block = student_step // interval
    if speed >= 1.0:
        return int(speed * (1 + block) * interval)
    return int(1 + speed * block) * interval


def _latest(numbered: Sequence[tuple[int, int]], asked: int) -> int:
    reached = [index for step, index in numbered if step <= asked]
    return reached[-1] if reached else numbered[0][1]


def chosen_revisions(
    wanted: Sequence[str | int] | None, revisions: Sequence[RevisionLike], final: int, *, what: str
) -> list[int]:
    """Return the indices of the wanted revisions (all by default), the final one last.

    Raises:
        ValueError: A wanted revision does not exist.
    """
    if wanted is None:
        return list(range(len(revisions)))
    order = [find_revision(name, revisions, what=what) for name in wanted]
    return [index for index in order if index != final] + [final]
