"""Which launch configuration to take: the fastest of those whose step fits into the memory of a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from hf_distill.planning.engines import ENGINES, Engine
from hf_distill.planning.machine import Machine
from hf_distill.planning.scaling import Layout, Point, point_of
from hf_distill.planning.work import PLACEMENTS, Placement, Work, share_of, with_batch

AS_FAST = 1.1
"""What lies within this factor is as fast: the formulas know no better."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A way to take a step.

    Attributes:
        layout: Engine and teacher.
        point: The step.
        checkpointing: Activations are computed anew in the backward.
    """

    layout: Layout
    point: Point
    checkpointing: bool

    def text(self) -> str:
        """Return it in the words of launch configurations and recipes."""
        words = [self.layout.engine.file, f"{self.point.micro_batch} × {self.point.accumulation}"]
        placed = {"sharded": "teacher.sharded", "offloaded": "teacher.offload", "cached": "teacher.cached"}
        words += [placed[self.layout.teacher]] if self.layout.teacher in placed else []
        return ", ".join(words + (["activation_checkpointing"] if self.checkpointing else []))


def choose(work: Work, machine: Machine, gpus: int, *, examples: int, cached: bool = False) -> Choice | None:
    """Return the way to take a step that fits and is fast; None where none fits.

    Of several that are about as fast as the fastest it is the simplest: the first engine, the teacher whole, large
    micro-batches, nothing computed twice.

    Args:
        work: Models and the length of their examples; the micro-batch is chosen here.
        machine: Its memory and its links.
        gpus: How many.
        examples: Of the step.
        cached: Also take ways whose targets have been cached before.
    """
    ways = [way for way in _ways(work, machine, gpus, examples=examples, cached=cached) if way.point.fits]
    fastest = min((way.point.step for way in ways), default=0.0)
    return next((way for way in ways if way.point.step <= AS_FAST * fastest), None)


def _ways(work: Work, machine: Machine, gpus: int, *, examples: int, cached: bool) -> Iterator[Choice]:
    for engine in ENGINES.values():
        # One GPU has nobody to share with, but a CPU beside it.
        if (gpus == 1 and not engine.on_cpu and engine.name != "single") or (gpus > 1 and engine.name == "single"):
            continue
        for placement in PLACEMENTS:
            if _sensible(engine, placement, cached=cached):
                yield from _batches(work, Layout(engine=engine, teacher=placement, machine=machine), gpus, examples)


def _sensible(engine: Engine, placement: Placement, *, cached: bool) -> bool:
    if placement == "sharded":
        return engine.splits_weights
    if placement == "offloaded":
        return engine.has_whole_models
    return cached or placement == "replicated"


def _batches(work: Work, layout: Layout, gpus: int, examples: int) -> Iterator[Choice]:
    most = examples // gpus
    while most:
        share = share_of(examples, gpus, most=most)
        assert share is not None
        mine = with_batch(work, examples=share.examples, accumulation=share.accumulation)
        for checkpointing in (False, True):
            settings = replace(mine.settings, checkpointing=checkpointing)
            point = point_of(replace(mine, settings=settings), layout, gpus)
            yield Choice(layout=layout, point=point, checkpointing=checkpointing)
        most //= 2
