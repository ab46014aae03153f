"""Progressive distillation that moves on when the student is ready, by a held-out metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from hf_distill.curricula.base import CURRICULA, Curriculum
from hf_distill.curricula.one_shot import final_stage
from hf_distill.curricula.plan import Plan, PlanContext, Stage
from hf_distill.curricula.progressive import AUTO, chosen_revisions


@dataclass(frozen=True, kw_only=True)
class Readiness:
    """Switch when a held-out metric reaches a level, saturates, or a stage has lasted long enough.

    Saturation (the `progressive_till_saturate` rule of 2410.05464's code): the metric gained less than `min_gain`
    over the mean of the `window` points before it, and more than `min_gain` since the switch, so that a plateau
    before any learning does not count.
    """

    metric: str
    level: float | None
    saturation: bool
    window: int
    min_gain: float
    max_steps: int | None
    sign: float

    def due(self, history: Sequence[Mapping[str, float]], *, since: int, step: int) -> bool:
        """Return whether to switch at `step`.

        Raises:
            ValueError: The metric is not among the held-out metrics.
        """
        if self.max_steps is not None and step - since >= self.max_steps:
            return True
        points = [point for point in history if "step" in point]
        if points and self.metric not in points[-1]:
            known = ", ".join(sorted(set(points[-1]) - {"step"}))
            raise ValueError(f"adaptive.metric: no held-out metric {self.metric!r}; there are: {known}")
        values = [self.sign * point[self.metric] for point in points]
        if not values:
            return False
        if self.level is not None and values[-1] >= self.sign * self.level:
            return True
        if not self.saturation or len(values) <= self.window:
            return False
        gain = values[-1] - sum(values[-1 - self.window : -1]) / self.window
        at_switch = [value for value, point in zip(values, points, strict=True) if point["step"] <= since]
        learnt = values[-1] - (at_switch[-1] if at_switch else values[0])
        return gain < self.min_gain < learnt


@CURRICULA.register("adaptive")
@dataclass(frozen=True, kw_only=True)
class Adaptive(Curriculum):
    """As n-shot, but the switch to the next revision happens when the student is ready for it.

    Looked at after every evaluation; the steps of the switches are recorded in the checkpoint and the run record. On
    sparse parity, switching at a held-out accuracy of .6-.7 does as well as the best fixed length.
    """

    papers: ClassVar[tuple[str, ...]] = ("2410.05464",)

    revisions: list[str | int] | None = field(
        default=None, metadata={"help": "names, steps or `auto`, in order; default all (the final one is always last)"}
    )
    metric: str = field(default="accuracy", metadata={"help": "held-out metric to watch, without `eval_`"})
    level: float | None = field(default=None, metadata={"help": "switch when the metric reaches it"})
    saturation: bool = field(default=False, metadata={"help": "switch when the metric saturates"})
    window: int = field(default=5, metadata={"help": "evaluations that saturation looks back over"})
    min_gain: float = field(default=0.01, metadata={"help": "gain that counts as progress"})
    max_stage_steps: int | None = field(default=None, metadata={"help": "switch after so many steps at the latest"})
    greater_is_better: bool = field(default=True, metadata={"help": "false for a loss or a perplexity"})

    def __post_init__(self) -> None:
        if self.level is None and not self.saturation and self.max_stage_steps is None:
            raise ValueError("adaptive: say when to switch with `level`, `saturation: true` or `max_stage_steps`")
        if self.window < 1:
            raise ValueError(f"adaptive: `window` must be at least 1, got {self.window}")

    @property
    def needs_scores(self) -> bool:
        """Whether `auto` is among the revisions."""
        return AUTO in (self.revisions or [])

    @property
    def needs_evaluation(self) -> bool:
        """Whether the switches are decided after evaluations: always."""
        return True

    def with_chosen(self, name: str) -> Adaptive:
        """Return the curriculum with the revision `name` in the place of `auto`."""
        return replace(self, revisions=[name if wanted == AUTO else wanted for wanted in self.revisions or []])

    def plan(self, context: PlanContext) -> Plan:
        """Lay out one stage a revision, with no switch yet.

        Raises:
            ValueError: A named revision does not exist.
        """
        final = final_stage(self, context)
        assert final.revision is not None
        order = chosen_revisions(self.revisions, context.revisions, final.revision, what="adaptive.revisions")
        stages = [Stage(name=context.revisions[index].name, terms=final.terms, revision=index) for index in order[:-1]]
        rule = Readiness(
            metric=self.metric,
            level=self.level,
            saturation=self.saturation,
            window=self.window,
            min_gain=self.min_gain,
            max_steps=self.max_stage_steps,
            sign=1.0 if self.greater_is_better else -1.0,
        )
        return Plan(stages=(*stages, final), rule=rule)
