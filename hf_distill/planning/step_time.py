"""How long a step of distillation takes on N GPUs, part by part: formulas and constants, no measurement."""

from __future__ import annotations

import math
from typing import NamedTuple

from hf_distill.planning.advice import FEW_OUTPUTS
from hf_distill.planning.arithmetic import BACKWARD, forward_flops
from hf_distill.planning.caching import CacheSize, cache_sizes
from hf_distill.planning.collectives import all_reduce_seconds, gather_seconds
from hf_distill.planning.engines import BUCKET, DDP_BUCKET_BYTES, Engine
from hf_distill.planning.machine import Machine
from hf_distill.planning.model_size import ModelSize
from hf_distill.planning.model_states import state_bytes
from hf_distill.planning.work import Placement, Work, teacher_call_of, with_batch


class Forward(NamedTuple):
    """Seconds of a micro-batch in one model: its forward, and its backward where it has one."""

    forward: float
    backward: float


def compute_seconds(size: ModelSize, work: Work, machine: Machine) -> Forward:
    """Return the seconds of a micro-batch in a model: its arithmetic, or launching its layers where that takes longer.

    With activation checkpointing the backward has a forward of its own.

    Args:
        size: The model's.
        work: Micro-batch and mask.
        machine: Its rate.
    """
    forward = forward_flops(size, work.shape, causal=work.causal) / (machine.flops * machine.utilisation)
    launching = size.layers * machine.launch_seconds
    again = max(forward, launching) if work.settings.checkpointing else 0.0
    return Forward(max(forward, launching), max(BACKWARD * forward, launching) + again)


def optimizer_seconds(work: Work, engine: Engine, machine: Machine, gpus: int) -> float:
    """Return the seconds of the optimizer's step: weights, gradient and states are read, all but the gradient written.

    On a CPU the gradients come first and the new weights go back.
    """
    share = 1 / gpus if "states" in engine.splits else 1.0
    moved = 4 * (3 + 2 * work.settings.states) * work.student.parameters * share
    if "states" not in engine.on_cpu:
        return moved / machine.memory_bandwidth
    crossed = 2 * work.settings.number_bytes * work.student.parameters * share
    return moved / (machine.cpu_bandwidth / machine.per_node) + crossed / machine.host


def gradient_seconds(work: Work, engine: Engine, machine: Machine, gpus: int) -> float:
    """Return the seconds that a step waits for what the GPUs send each other of the student.

    DistributedDataParallel sums up the gradients once, behind the last backward but for the last bucket. DeepSpeed's
    ZeRO-1 and 2 sum them up when the backward is over and then put the weights together. Where weights are split, they
    are put together behind each forward and backward, and the gradients summed up behind the backward.
    """
    if gpus == 1:
        return 0.0
    if engine.splits_weights:
        return _split_seconds(work, engine, machine, gpus)
    size = state_bytes(work.student, work.settings, engine).gradients
    bucket = BUCKET * work.settings.number_bytes if engine.deepspeed else DDP_BUCKET_BYTES
    calls = math.ceil(size / bucket)
    seconds = all_reduce_seconds(machine, size, gpus, calls=calls)
    if engine.overlaps:
        backward = compute_seconds(work.student, work, machine).backward
        return max(seconds - backward, seconds / calls)
    times = work.settings.accumulation if "gradients" in engine.splits else 1
    together = gather_seconds(machine, size, gpus, calls=calls) if "states" in engine.splits else 0.0
    return times * seconds + together


def _split_seconds(work: Work, engine: Engine, machine: Machine, gpus: int) -> float:
    compute = compute_seconds(work.student, work, machine)
    size, calls = work.student.parameters * work.settings.number_bytes, work.student.layers + 1
    gather = gather_seconds(machine, size, gpus, calls=calls)
    if "weights" in engine.on_cpu:
        gather += size / gpus / machine.host
    again = 0.0 if engine.gathered(work.student) >= work.student.parameters else gather
    last = gather_seconds(machine, size, gpus, calls=calls)
    # FSDP2 sums up the gradients of the last micro-batch only, DeepSpeed those of each.
    sums = work.settings.accumulation if engine.deepspeed else 1
    forward = max(gather - compute.forward, gather / calls)
    without = max(again - compute.backward, again / calls)
    with_sums = max(again + last - compute.backward, last / calls)
    return work.settings.accumulation * forward + sums * with_sums + (work.settings.accumulation - sums) * without


class TeacherSeconds(NamedTuple):
    """Seconds of the teacher in a step: at work (arithmetic, reading, lending), and waiting for the other GPUs."""

    work: float
    waiting: float


def teacher_seconds(work: Work, placement: Placement, engine: Engine, machine: Machine, gpus: int) -> TeacherSeconds:
    """Return the seconds that the teacher takes of a step.

    It is called c = ⌈A / m⌉ times a step of A micro-batches: m = 1, and with `teacher_window` as many as one call
    answers. A call takes its arithmetic or launching its layers, whichever is longer; weights W that are lent are
    copied once a call over the host's link, before it, and it waits for them, so that an offloaded teacher takes
    Σ max(m · F / rate, L · launch) + c · W / host of a step. A split teacher's layers are put together behind the
    layers before them. Cached targets are read from the node's disk by all its GPUs at a time.
    """
    if work.teacher is None:
        return TeacherSeconds(0.0, 0.0)
    if placement == "cached":
        return TeacherSeconds(work.settings.accumulation * _cached_seconds(work, machine, gpus), 0.0)
    call = teacher_call_of(work, placement, engine, gpus)
    seconds = waiting = 0.0
    for together in call.calls(work.settings.accumulation):
        joined = with_batch(work, examples=together * work.shape.examples, accumulation=1)
        forward = compute_seconds(work.teacher, joined, machine).forward
        seconds += forward + (work.teacher.weight_bytes / machine.host if call.lent else 0.0)
        if call.ranks > 1:
            layers = work.teacher.layers + 1
            gather = gather_seconds(machine, work.teacher.weight_bytes, gpus, calls=layers)
            waiting += max(gather - forward, gather / layers)
    return TeacherSeconds(seconds, waiting)


def exact_cache(teacher: ModelSize, rows: int) -> CacheSize:
    """Return the smaller of the exact ways to keep targets: logits of a few outputs, else hidden states."""
    codec = "logits" if teacher.outputs <= FEW_OUTPUTS else "hidden"
    return next(cache for cache in cache_sizes(teacher, rows) if cache.codec == codec)


def _cached_seconds(work: Work, machine: Machine, gpus: int) -> float:
    assert work.teacher is not None
    cache = exact_cache(work.teacher, work.shape.rows)
    together = min(gpus, machine.per_node)
    reading = together * work.shape.rows * cache.bytes_per_row / machine.disk
    head = work.teacher.head if cache.codec == "hidden" else 0
    return reading + 2 * work.shape.rows * head / (machine.flops * machine.utilisation)


def revision_seconds(
    work: Work, placement: Placement, machine: Machine, gpus: int, *, step: float, shared_cache: bool = False
) -> float:
    """Return the seconds a step that changing revisions costs, spread over the steps between two changes.

    The next revision is downloaded and read while the current one teaches; what that does not hide is waited for.
    Then the weights are copied to the GPU in place.

    Args:
        work: The teacher and how often it changes.
        placement: Where it is.
        machine: Its links.
        gpus: N.
        step: Seconds of a step without this.
        shared_cache: All nodes have one cache of the Hub, so that one download serves all; else each has its own.
    """
    if work.teacher is None or work.revision_steps is None or placement == "cached":
        return 0.0
    size, downloads = work.teacher.weight_bytes, 1 if shared_cache else machine.nodes(gpus)
    download = size / min(machine.hub, machine.site / downloads)
    stall = max(0.0, download + size / machine.disk - work.revision_steps * step)
    copied = 0.0 if placement == "offloaded" else size / (gpus if placement == "sharded" else 1) / machine.host
    return (stall + copied) / work.revision_steps
