"""What a step of distillation takes on 1, 2, 4, ... GPUs, and what it waits for most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hf_distill.planning.engines import ENGINES, Engine
from hf_distill.planning.machine import MACHINES, Machine
from hf_distill.planning.memory import step_memory, total
from hf_distill.planning.model_states import MemoryLine
from hf_distill.planning.step_time import (
    compute_seconds,
    exact_cache,
    gradient_seconds,
    optimizer_seconds,
    revision_seconds,
    teacher_seconds,
)
from hf_distill.planning.work import Placement, Work, share_of, teacher_call_of, with_batch

Bound = Literal["compute", "teacher", "interconnect", "revision download"]

GPUS = tuple(2**power for power in range(11))
"""1 to 1,024."""

FULL = 0.9
"""Most of a GPU's memory that a plan may fill: the rest is the driver's, NCCL's, and what fragments leave."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How a step is spread over GPUs.

    Attributes:
        engine: Of the student.
        teacher: Where it is.
        machine: What all of it runs on.
        shared_cache: All nodes have one cache of the Hub.

    Raises:
        ValueError: A teacher would be lent to the GPU under an engine that cannot have that.
    """

    engine: Engine = ENGINES["ddp"]
    teacher: Placement = "replicated"
    machine: Machine = MACHINES["h100"]
    shared_cache: bool = False

    def __post_init__(self) -> None:
        if self.teacher == "offloaded" and not self.engine.has_whole_models:
            raise ValueError(
                f"teacher.offload lends whole weights to the GPU, which {self.engine.name} does not allow; use "
                "`sharded` where it splits weights, `cached`, or an engine without sharding (single, ddp)"
            )


@dataclass(frozen=True, kw_only=True)
class Point:
    """A step on N GPUs. Times are in seconds, and add up to the step.

    Attributes:
        gpus: N.
        micro_batch: Examples of a micro-batch.
        accumulation: Micro-batches of a GPU in a step.
        teacher_calls: How often a GPU runs the teacher in a step.
        compute: Of the student: forward, backward, optimizer.
        teacher: Of the teacher at work.
        interconnect: Waiting for what other GPUs send.
        revisions: Of downloading and changing the teacher's revisions, spread over the steps between two changes.
        memory: Bytes on each GPU.
        fits: Whether the GPU has them.
    """

    gpus: int
    micro_batch: int
    accumulation: int
    teacher_calls: int
    compute: float
    teacher: float
    interconnect: float
    revisions: float
    memory: int
    fits: bool

    @property
    def step(self) -> float:
        """Seconds of the step."""
        return self.compute + self.teacher + self.interconnect + self.revisions

    @property
    def examples(self) -> int:
        """Examples of the step, on all GPUs together."""
        return self.gpus * self.micro_batch * self.accumulation

    @property
    def bound(self) -> Bound:
        """What the step spends most of its time on."""
        parts: dict[Bound, float] = {
            "compute": self.compute,
            "teacher": self.teacher,
            "interconnect": self.interconnect,
            "revision download": self.revisions,
        }
        return max(parts, key=parts.__getitem__)


def efficiency(point: Point, alone: Point) -> float:
    """Return the examples a second and GPU, against those of one GPU."""
    return (point.examples / point.step / point.gpus) / (alone.examples / alone.step / alone.gpus)


def point_of(work: Work, layout: Layout, gpus: int) -> Point:
    """Return a step in which each of N GPUs takes the work's micro-batches."""
    machine, engine = layout.machine, layout.engine
    student = compute_seconds(work.student, work, machine)
    compute = work.settings.accumulation * (student.forward + student.backward)
    compute += optimizer_seconds(work, engine, machine, gpus)
    teacher = teacher_seconds(work, layout.teacher, engine, machine, gpus)
    interconnect = gradient_seconds(work, engine, machine, gpus) + teacher.waiting
    step = compute + teacher.work + interconnect
    memory = total(memory_of(work, layout, gpus))
    live = work.teacher is not None and layout.teacher != "cached"
    call = teacher_call_of(work, layout.teacher, engine, gpus)
    return Point(
        gpus=gpus,
        micro_batch=work.shape.examples,
        accumulation=work.settings.accumulation,
        teacher_calls=len(call.calls(work.settings.accumulation)) if live else 0,
        compute=compute,
        teacher=teacher.work,
        interconnect=interconnect,
        revisions=revision_seconds(work, layout.teacher, machine, gpus, step=step, shared_cache=layout.shared_cache),
        memory=memory,
        fits=memory <= FULL * machine.memory_bytes,
    )


def memory_of(work: Work, layout: Layout, gpus: int) -> list[MemoryLine]:
    """Return what a step holds on each of N GPUs, largest class first."""
    live = work.teacher is not None and layout.teacher != "cached"
    lines = step_memory(
        work.student,
        work.teacher if live else None,
        work.settings,
        work.shape,
        head=work.head_bytes(),
        call=teacher_call_of(work, layout.teacher, layout.engine, gpus),
        engine=layout.engine,
        gpus=gpus,
    )
    if work.teacher is None or live:
        return lines
    kept = exact_cache(work.teacher, 0).size
    return lines + ([MemoryLine(name="the teacher's head", size=kept, fix="a cache of top-k")] if kept else [])


def scaled(work: Work, layout: Layout, *, examples: int | None = None, gpus: Sequence[int] = GPUS) -> list[Point]:
    """Return the steps on each number of GPUs.

    Args:
        work: Of a step on one GPU.
        layout: How it is spread.
        examples: Of a step, however many GPUs share it: the same run on more of them. Numbers that do not divide it
            are left out. None: each GPU keeps its micro-batches, and the batch grows.
        gpus: Numbers of GPUs.
    """
    points = []
    for number in gpus:
        mine = work
        if examples is not None:
            share = share_of(examples, number, most=work.shape.examples)
            if share is None:
                continue
            mine = with_batch(work, examples=share.examples, accumulation=share.accumulation)
        points.append(point_of(mine, layout, number))
    return points
