"""From a plan to what to do: whether it can be run at all, and where the teacher's targets should come from."""

from __future__ import annotations

from typing import Literal, NamedTuple

from hf_distill.planning.arithmetic import forward_flops, train_flops
from hf_distill.planning.memory import total
from hf_distill.planning.run_plan import RunPlan

Source = Literal["live", "logits", "hidden", "top_k", "none"]

SMALL_SHARE = 0.1
"""Below this share of a step there is nothing to save on the teacher."""
FEW_OUTPUTS = 1024
"""Up to so many outputs whole logits are as small as a packed top-k."""
DISK_SHARE = 0.5
"""Most of the free disk that a cache may take to be recommended."""


class Advice(NamedTuple):
    """Where the teacher's targets should come from, and why."""

    source: Source
    reason: str


def advise(plan: RunPlan) -> Advice:
    """Return where the targets should come from: the live teacher or a cache, and of which kind.

    A cache pays where a target is read at least twice and the teacher takes a share of the step that matters; the
    exact codecs come first, as long as they fit on the disk.
    """
    if plan.teacher is None or not plan.readings:
        return Advice("none", "no curriculum of the recipe runs a teacher")
    if not plan.caches:
        return Advice("live", "targets of such a head are not cached")
    share = teacher_share(plan)
    if share < SMALL_SHARE:
        return Advice("live", f"the teacher takes {share:.0%} of a step: there is next to nothing to save")
    if plan.readings < 2.0:
        return Advice("live", f"a cached target would be read {plan.readings:.2g} times: a cache would save nothing")
    saved = f"a cached target is read {plan.readings:.3g} times and the teacher takes {share:.0%} of a step"
    few = plan.teacher.outputs <= FEW_OUTPUTS
    exact = next(cache for cache in plan.caches if cache.codec == ("logits" if few else "hidden"))
    if exact.size <= DISK_SHARE * plan.free_bytes:
        return Advice(exact.codec, f"{saved}; exact at {exact.bytes_per_row:g} bytes a row")  # type: ignore[arg-type]
    top_k = next(cache for cache in plan.caches if cache.codec == "top_k")
    if top_k.size <= DISK_SHARE * plan.free_bytes:
        return Advice("top_k", f"{saved}; hidden states would not fit on the disk")
    return Advice("live", f"{saved}, but not even the smallest cache fits on the disk")


def teacher_share(plan: RunPlan) -> float:
    """Return the teacher's share of a step: measured where steps were taken, else of the arithmetic."""
    measured = [cell.probe.teacher_share for cell in plan.cells if cell.probe is not None and cell.teacher_steps]
    if measured:
        return max(measured)
    if plan.teacher is None:
        return 0.0
    forward = forward_flops(plan.teacher, plan.shape, causal=plan.causal)
    return forward / (forward + train_flops(plan.student, plan.shape, causal=plan.causal))


def check_possible(plan: RunPlan) -> None:
    """Refuse a run that cannot work on this machine.

    Raises:
        ValueError: The memory of a step or the disk does not suffice; the message names the largest part and what
            makes it smaller.
    """
    needed = total(plan.memory)
    if needed > plan.device_bytes:
        largest = plan.memory[0]
        raise ValueError(
            f"a step needs about {gigabytes(needed)} on the {plan.device}, which has {gigabytes(plan.device_bytes)}. "
            f"The largest part is {largest.name}, {gigabytes(largest.size)}; make it smaller with {largest.fix}"
        )
    disk = plan.revision_bytes + plan.checkpoint_bytes
    if disk > plan.free_bytes:
        larger = plan.revision_bytes >= plan.checkpoint_bytes
        part = "the teacher's revisions" if larger else "the students' checkpoints"
        fix = (
            "teacher.max_cached_gb, fewer revisions (`{revisions, every, first, last}`), or a larger save_steps and "
            "save_only_model: true for a teacher that is trained first"
            if larger
            else "save_total_limit: 1 or save_only_model: true, or another output_dir"
        )
        raise ValueError(
            f"the run needs about {gigabytes(disk)} of disk, of which {gigabytes(plan.free_bytes)} are free. Most is "
            f"{part}; choose {fix}"
        )


def gigabytes(size: float) -> str:
    """Return bytes for people, in 10⁹."""
    return f"{size / 1e9:.3g} GB"
