"""What there is to do in a step of distillation, before it is spread over GPUs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

from hf_distill.kernels.tile_sizes import BUDGET_BYTES_ELSEWHERE
from hf_distill.planning.engines import Engine
from hf_distill.planning.memory import BatchShape, TeacherCall, dense_head_bytes, teacher_call, tiled_head_bytes
from hf_distill.planning.model_size import ModelSize
from hf_distill.planning.model_states import StepSettings
from hf_distill.planning.run_plan import RunPlan
from hf_distill.wording import did_you_mean

Placement = Literal["replicated", "sharded", "offloaded", "cached"]
"""Where the teacher is: whole on each GPU, split as its student is, lent to the GPU for each call, or cached."""

PLACEMENTS: tuple[Placement, ...] = get_args(Placement)


@dataclass(frozen=True, kw_only=True)
class Work:
    """A step of a student's training.

    Attributes:
        student: Its size.
        teacher: Its size; None without one.
        shape: Of the largest micro-batch that one GPU takes.
        settings: Optimizer, number format, activation checkpointing; of the accumulation on one GPU; whether the
            teacher answers several micro-batches in one call.
        causal: Positions look back only.
        tiled: Losses are computed in tiles of a vocabulary.
        revision_steps: Steps between two revisions of the teacher; None where it stays the same.
    """

    student: ModelSize
    teacher: ModelSize | None
    shape: BatchShape
    settings: StepSettings
    causal: bool = False
    tiled: bool = True
    revision_steps: float | None = None

    @property
    def examples(self) -> int:
        """Examples of a step on one GPU."""
        return self.shape.examples * self.settings.accumulation

    def head_bytes(self, *, with_teacher: bool = True) -> int:
        """Return what the heads' outputs take on a GPU."""
        teacher = self.teacher if with_teacher else None
        if self.tiled:
            return tiled_head_bytes(self.student, teacher, self.shape, budget=BUDGET_BYTES_ELSEWHERE)
        return dense_head_bytes(self.student, teacher, self.shape)


def with_batch(work: Work, *, examples: int, accumulation: int) -> Work:
    """Return the work with another micro-batch of like examples."""
    was, factor = work.shape, examples / work.shape.examples
    shape = BatchShape(
        examples=examples,
        tokens=round(was.tokens * factor),
        positions=round(was.positions * factor),
        rows=max(1, round(was.rows * factor)),
    )
    return replace(work, shape=shape, settings=replace(work.settings, accumulation=accumulation))


def teacher_call_of(work: Work, placement: Placement, engine: Engine, gpus: int) -> TeacherCall:
    """Return how one of N GPUs asks the teacher: under engines that split models about one micro-batch at a time."""
    ranks = gpus if placement == "sharded" and engine.splits_weights else 1
    lent = placement == "offloaded"
    return teacher_call(
        work.settings, work.shape, lent=lent, ranks=ranks, first=work.tiled, joins=engine.has_whole_models
    )


class Share(NamedTuple):
    """What a GPU does of a step: examples of a micro-batch, and how many micro-batches."""

    examples: int
    accumulation: int


def share_of(total: int, gpus: int, *, most: int) -> Share | None:
    """Return the share of one of N GPUs in a step of `total` examples, as few micro-batches as possible.

    None where that does not come out even: the same step cannot be taken with so many GPUs.

    Args:
        total: Examples of the step.
        gpus: N.
        most: Examples of a micro-batch at most.
    """
    if total % gpus:
        return None
    mine = total // gpus
    accumulation = next(count for count in range(-(-mine // most), mine + 1) if mine % count == 0)
    return Share(mine // accumulation, accumulation)


def work_of(plan: RunPlan) -> Work:
    """Return the work of a step of a recipe, with products in 16 bits as the launch configurations ask for.

    Its stages are those of the curriculum that changes revisions most often.
    """
    stages = [cell.teacher_steps / len(cell.examples_read) for cell in plan.cells if len(cell.examples_read) > 1]
    return Work(
        student=plan.student,
        teacher=plan.teacher,
        shape=plan.shape,
        settings=replace(plan.settings, half=True, window=plan.settings.window and plan.joins),
        causal=plan.causal,
        tiled=plan.tiled,
        revision_steps=min(stages, default=None),
    )


def placement_named(name: str) -> Placement:
    """Return where a teacher is.

    Raises:
        ValueError: There is no such place.
    """
    for placement in PLACEMENTS:
        if placement == name:
            return placement
    raise ValueError(f"a teacher cannot be {name!r}; it is {', '.join(PLACEMENTS)}.{did_you_mean(name, PLACEMENTS)}")
