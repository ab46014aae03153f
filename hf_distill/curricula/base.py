"""What a curriculum is: it lays out stages over a run."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from transformers import PreTrainedConfig

from hf_distill.curricula.plan import Plan, PlanContext, RevisionLike, Term
from hf_distill.objectives import OBJECTIVES
from hf_distill.reading.extractor import Extractor
from hf_distill.reading.signals import Head
from hf_distill.registry import Registry
from hf_distill.schedules import Constant, Schedule, build_schedule


class BestOfStage(NamedTuple):
    """By which held-out metric the best student of a stage is chosen, and whether more of it is better."""

    metric: str
    greater_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Curriculum(ABC):
    """What the student learns from at every optimizer step; the fields are the keys under `curriculum:`.

    The common fields say what the stages with a teacher compare. With no `objectives`, class and token heads use
    forward KL and regression heads the squared error with the teacher.

    Attributes:
        papers: arXiv ids that the card of a student cites, each in `bibliography.py`.
    """

    papers: ClassVar[tuple[str, ...]] = ()

    objectives: list[dict[str, Any]] | None = field(
        default=None, metadata={"help": "terms of the teacher stages: {name, weight, temperature, ...fields}"}
    )
    temperature: float | dict[str, Any] = field(
        default=1.0, metadata={"help": "temperature (number or schedule) of terms that do not set their own"}
    )
    label_mix: float | dict[str, Any] = field(
        default=0.0, metadata={"help": "α (number or schedule) of L = α·labels + (1 − α)·teacher"}
    )
    intra: dict[str, Any] | None = field(
        default=None,
        metadata={"help": "intra-distillation or R-Drop: {passes, alpha, p, q, mode, reduction, ...}"},
    )
    views: dict[str, Any] | list[dict[str, Any]] | None = field(
        default=None,
        metadata={
            "help": "augmented views for the teacher's terms: {name, weight, pick, label, ...fields}, or a list"
        },
    )

    @abstractmethod
    def plan(self, context: PlanContext) -> Plan:
        """Lay out the stages over the run.

        Raises:
            ValueError: The run, the head or the teacher's revisions cannot carry this curriculum.
        """

    @property
    def uses_teacher(self) -> bool:
        """Whether any stage runs a teacher."""
        return True

    @property
    def needs_scores(self) -> bool:
        """Whether a revision called `auto` must be chosen by scoring the teacher before planning."""
        return False

    @property
    def best_of_stage(self) -> BestOfStage | None:
        """How the student is chosen that the next stage starts from; None: training goes on with the one it has.

        Where it is chosen, each stage has a new optimizer and schedule.
        """
        return None

    @property
    def needs_layer_map(self) -> bool:
        """Whether layers must be mapped by comparing the models on data before planning."""
        return False

    def with_layers(self, pairs: Iterable[Iterable[int]]) -> Curriculum:
        """Return the curriculum with the layer map that was found."""
        return self

    def needs(self, context: PlanContext) -> frozenset[str]:
        """Return what the stages with a teacher need of it, of the student and of the batch."""
        return frozenset().union(*(term.objective.needs for term in self.teacher_terms(context)))

    def build_extractor(self, student: PreTrainedConfig, teacher: PreTrainedConfig) -> Extractor | None:
        """Return projections and read-outs of hidden layers for two models; None where no stage ends at a layer.

        Raises:
            ValueError: A layer does not exist, or the settings contradict each other.
        """
        return None

    @property
    def needs_evaluation(self) -> bool:
        """Whether the switches are decided after evaluations."""
        return False

    def with_chosen(self, name: str) -> Curriculum:
        """Return the curriculum with the revision `name` in the place of `auto`."""
        return self

    def teacher_terms(self, context: PlanContext) -> tuple[Term, ...]:
        """Return the terms of a stage that learns from the teacher.

        Raises:
            ValueError: An objective is unknown, does not fit the head, or has unknown fields.
        """
        regression = context.head == "regression"
        specs = self.objectives or [{"name": "teacher_mean_squared_error" if regression else "forward_kl"}]
        mix = build_schedule(self.label_mix, path="curriculum.label_mix")
        check_range(mix, 0.0, 1.0, path="curriculum.label_mix")
        mixed = not (isinstance(mix, Constant) and mix.level == 0.0)
        default_temperature = build_schedule(self.temperature, path="curriculum.temperature")
        terms = [
            _build_term(spec, index, context.head, default_temperature, mix if mixed else None)
            for index, spec in enumerate(specs)
        ]
        if mixed:
            terms.extend(label_terms(context, mix))
        names = [term.name for term in terms]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"curriculum.objectives: {sorted(repeated)} appear twice; give one of them a `label`")
        return tuple(terms)


CURRICULA: Registry[Curriculum] = Registry("curriculum", Curriculum)


def label_terms(context: PlanContext, mix: Schedule | None = None) -> tuple[Term, ...]:
    """Return the term that learns from labels, for the head of `context`."""
    if context.head == "regression":
        objective = OBJECTIVES.build({"name": "mean_squared_error"}, path="labels")
    else:
        spec = {"name": "cross_entropy", "label_smoothing": context.label_smoothing}
        objective = OBJECTIVES.build(spec, path="labels")
    objective.check_head(context.head, path="labels")
    return (Term(name="labels", objective=objective, weight=Constant(level=1.0), label_mix=mix),)


def _build_term(spec: Mapping[str, Any], index: int, head: Head, temperature: Schedule, mix: Schedule | None) -> Term:
    path = f"curriculum.objectives[{index}]"
    fields = dict(spec)
    weight = build_schedule(fields.pop("weight", 1.0), path=f"{path}.weight")
    own = fields.pop("temperature", None)
    label = fields.pop("label", fields.get("name"))
    if own is not None:
        temperature = build_schedule(own, path=f"{path}.temperature")
    check_range(temperature, 0.0, math.inf, path=f"{path}.temperature")
    objective = OBJECTIVES.build(fields, path=path)
    objective.check_head(head, path=path)
    return Term(
        name=str(label),
        objective=objective,
        weight=weight,
        temperature=temperature,
        label_mix=mix if objective.uses_teacher else None,
    )


def check_range(schedule: Schedule, low: float, high: float, *, path: str) -> None:
    """Refuse a schedule that leaves [low, high], looked at in 1 % steps of the run.

    Raises:
        ValueError: It does.
    """
    outside = [value for percent in range(101) if not low <= (value := schedule(percent / 100)) <= high]
    if outside:
        text = schedule.formula()
        raise ValueError(f"{path}: must stay within [{low:g}, {high:g}], but {text} gives {outside[0]:g}")


def stage_length(steps: int | None, share: float | None, max_steps: int, *, what: str) -> int:
    """Return a stage's length in steps, given in steps or as a share of the run.

    Raises:
        ValueError: Both or neither are given, or the stage would not fit strictly inside the run.
    """
    if (steps is None) == (share is None):
        raise ValueError(f"{what}: give either `steps` or `share`, got steps={steps}, share={share}")
    length = steps if steps is not None else round((share or 0.0) * max_steps)
    if not 0 < length < max_steps:
        raise ValueError(
            f"{what}: a first stage of {length} steps must lie strictly between 0 and the run's {max_steps} steps; "
            "change `steps`/`share` or the training's max_steps"
        )
    return length


def find_revision(wanted: str | int, revisions: Sequence[RevisionLike], *, what: str) -> int:
    """Return the index of the revision called or numbered `wanted`.

    Raises:
        ValueError: There is none; the message lists those that exist.
    """
    for index, revision in enumerate(revisions):
        if wanted in (revision.name, revision.step) or str(wanted) == str(revision.step):
            return index
    known = ", ".join(revision.name for revision in revisions) or "none: the teacher has no revisions"
    raise ValueError(f"{what}: the teacher has no revision {wanted!r}; it has {known}")
