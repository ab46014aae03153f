"""Stages, and the plan that says which one an optimizer step belongs to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from hf_distill.objectives import Objective
from hf_distill.reading.extractor import LayerPair
from hf_distill.reading.signals import Head
from hf_distill.schedules import Constant, Schedule
from hf_distill.views import StageView


class RevisionLike(Protocol):
    """What a curriculum needs to know of a teacher revision."""

    @property
    def name(self) -> str:
        """Name of the revision, e.g. "step300"."""

    @property
    def step(self) -> int | None:
        """Training step of the teacher, where the name tells it."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """One objective of a stage with its weight and temperature.

    Attributes:
        name: Unique among the stage's terms on one batch.
        objective: What is compared.
        weight: Factor in the loss, over progress.
        temperature: Divides the logits, over progress.
        label_mix: α of L = α·labels + (1 − α)·teacher; teacher terms get 1 − α, label terms of the mix α.
        scale: A constant factor beside the weight.
        view: The augmented batch that is compared on, with its own weight; None for the batch itself.
    """

    name: str
    objective: Objective
    weight: Schedule
    temperature: Schedule = Constant(level=1.0)
    label_mix: Schedule | None = None
    scale: float = 1.0
    view: StageView | None = None

    @property
    def key(self) -> str:
        """Name in the log, unique within the stage."""
        return self.name if self.view is None else f"{self.name}@{self.view.name}"

    def weight_at(self, progress: float) -> float:
        """Return the factor of this term at `progress`."""
        weight = self.scale * self.weight(progress) * (1.0 if self.view is None else self.view.weight(progress))
        if self.label_mix is None:
            return weight
        share = self.label_mix(progress)
        return weight * ((1.0 - share) if self.objective.uses_teacher else share)

    def formula(self) -> str:
        """Return the term as text for reports and cards."""
        mix = ""
        if self.label_mix is not None:
            alpha = self.label_mix.formula()
            mix = f"(1−{alpha})·" if self.objective.uses_teacher else f"({alpha})·"
        tau = f" [τ={self.temperature.formula()}]" if "τ" in self.objective.formula() else ""
        weight = self.weight.formula()
        scale = "" if self.scale == 1.0 else f"{self.scale:g}·"
        view = "" if self.view is None or self.view.weight.formula() == "1" else f"({self.view.weight.formula()})·"
        on = "" if self.view is None else f" @{self.view.name}"
        return f"{scale}{mix}{view}{'' if weight == '1' else f'({weight})·'}{self.objective.formula()}{tau}{on}"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stretch of training with one kind of target.

    Attributes:
        name: Shown in progress bars, logs and reports.
        terms: What the loss adds up.
        revision: Index into the teacher's revisions; None where no teacher runs.
        layers: The hidden layers that are compared; None where logits are. Nothing behind them is computed.
        passes: Forwards of the student per batch, each with its own dropout (intra-distillation).
        pass_mode: One forward after the other, or one forward of the repeated batch.
    """

    name: str
    terms: tuple[Term, ...]
    revision: int | None = None
    layers: LayerPair | None = None
    passes: int = 1
    pass_mode: Literal["loop", "repeat"] = "loop"

    @property
    def needs(self) -> frozenset[str]:
        """What the stage's objectives and views need of student, teacher and batch."""
        views = (term.view.view.needs for term in self.terms if term.view is not None)
        return frozenset().union(*(term.objective.needs for term in self.terms), *views)


class SwitchRule(Protocol):
    """When an adaptive curriculum moves on."""

    @property
    def metric(self) -> str:
        """The held-out metric it looks at."""

    def due(self, history: Sequence[Mapping[str, float]], *, since: int, step: int) -> bool:
        """Return whether to switch at `step`, given held-out points and the step of the last switch."""


@dataclass(kw_only=True)
class Plan:
    """Ordered stages and the steps at which training moves from one to the next.

    `stage_at` is a pure function of the step. A fixed plan knows all its switches; an adaptive one starts without and
    records each as it happens: those recorded steps are the only state a curriculum has.

    Attributes:
        stages: In order.
        switches: `switches[i]` is the first step of `stages[i + 1]`.
        rule: When to move on; None for a fixed plan.
    """

    stages: tuple[Stage, ...]
    switches: list[int] = field(default_factory=list)
    rule: SwitchRule | None = None

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a plan needs at least one stage")
        if self.rule is None and len(self.switches) != len(self.stages) - 1:
            raise ValueError(f"{len(self.stages)} stages need {len(self.stages) - 1} switches, got {self.switches}")

    def index_at(self, step: int) -> int:
        """Return the index of the stage that optimizer step `step` (from 0) belongs to."""
        return bisect_right(self.switches, step)

    def stage_at(self, step: int) -> Stage:
        """Return the stage that optimizer step `step` (from 0) belongs to."""
        return self.stages[self.index_at(step)]

    def resume(self, switches: Sequence[int], step: int) -> None:
        """Continue a run at `step` that recorded `switches`.

        Raises:
            ValueError: A fixed plan would have switched elsewhere in what is done already: it is not the same run.
        """
        if self.rule is not None:
            self.switches = list(switches)
            return
        before, now = ([s for s in steps if s <= step] for steps in (switches, self.switches))
        if before != now:
            raise ValueError(
                f"the run changed stages at {before or 'no step'} up to step {step}, but with today's max_steps and "
                f"curriculum it would have at {now or 'no step'}; resume with the same max_steps, or start a new run"
            )

    def start_of(self, index: int) -> int | None:
        """Return the first step of a stage, None where an adaptive plan has not reached it."""
        starts = [0, *self.switches]
        return starts[index] if index < len(starts) else None

    def describe(self, step: int, progress: float) -> dict[str, float]:
        """Return the stage's number and its terms' weights and temperatures, under the names of the log."""
        index = self.index_at(step)
        described = {"curriculum/stage": float(index)}
        for term in self.stages[index].terms:
            described[f"weight/{term.key}"] = term.weight_at(progress)
            if term.objective.uses_teacher and term.view is None:
                described[f"temperature/{term.key}"] = term.temperature(progress)
        return described

    def next_revision(self, step: int) -> int | None:
        """Return the next stage's revision where it differs from the current one, for reading it ahead."""
        index = self.index_at(step)
        if index + 1 >= len(self.stages):
            return None
        following = self.stages[index + 1].revision
        return None if following == self.stages[index].revision else following

    def observe(self, history: Sequence[Mapping[str, float]], step: int) -> bool:
        """Record a switch at `step` where the rule asks for one; return whether it did.

        Args:
            history: Held-out points in order, each with "step" and metrics without prefix.
            step: The number of optimizer steps done, which is the first step of the next stage.
        """
        if self.rule is None or self.index_at(step) >= len(self.stages) - 1:
            return False
        since = self.switches[-1] if self.switches else 0
        if step <= since or not self.rule.due(history, since=since, step=step):
            return False
        self.switches.append(step)
        return True


@dataclass(frozen=True, kw_only=True)
class PlanContext:
    """What a curriculum is planned for.

    Attributes:
        head: The kind of head.
        max_steps: Optimizer steps of the run.
        revisions: The teacher's revisions, first to final; empty without a teacher.
        label_smoothing: Of the label term.
        student_layers: Number of the student's layers, for curricula that compare hidden states.
        teacher_layers: Number of the teacher's layers.
    """

    head: Head
    max_steps: int
    revisions: Sequence[RevisionLike] = ()
    label_smoothing: float = 0.0
    student_layers: int = 0
    teacher_layers: int = 0
