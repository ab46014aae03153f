"""Steps on many GPUs: what adds up, what bounds them, and what can go wrong in telling so."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from scaled_work import BILLION, size, work

from hf_distill.planning.engines import ENGINES
from hf_distill.planning.machine import MACHINES, machine_named
from hf_distill.planning.memory import total
from hf_distill.planning.scaling import GPUS, Layout, efficiency, memory_of, point_of, scaled
from hf_distill.planning.work import PLACEMENTS


def layouts() -> list[Layout]:
    made = [(engine, teacher) for engine in ENGINES.values() for teacher in PLACEMENTS]
    return [
        Layout(engine=engine, teacher=teacher)
        for engine, teacher in made
        if teacher != "offloaded" or engine.has_whole_models
    ]


@pytest.mark.parametrize("layout", layouts(), ids=lambda one: f"{one.engine.name}-{one.teacher}")
def test_more_gpus_are_never_more_efficient_but_for_a_shared_optimizer(layout):
    points = scaled(work(), layout, examples=1024)
    assert [point.gpus for point in points] == list(GPUS)
    assert all(point.examples == 1024 for point in points)
    # A step of one GPU has no one to share its optimizer with.
    free = work().student.parameters * 28 / layout.machine.memory_bandwidth
    if layout.engine.on_cpu:
        free = work().student.parameters * 28 / (layout.machine.cpu_bandwidth / 8)
    slack = 1 + free / points[-1].step
    assert all(0 < efficiency(point, points[0]) <= slack for point in points)
    assert all(before.memory >= after.memory - 5 * BILLION for before, after in pairwise(points))


def test_times_add_up_and_the_largest_bounds():
    point = point_of(work(), Layout(), 8)
    assert point.step == pytest.approx(point.compute + point.teacher + point.interconnect + point.revisions)
    assert point.bound == "teacher"
    assert point_of(work(), Layout(teacher="cached"), 8).bound == "compute"
    slow = Layout(machine=machine_named("h100", ["between=1e8"]))
    assert point_of(work(), slow, 16).bound == "interconnect"
    quick = work(revision_steps=1)
    assert point_of(quick, Layout(), 8).bound == "revision download"


def test_a_batch_that_does_not_come_out_even_is_left_out():
    assert [point.gpus for point in scaled(work(), Layout(), examples=12)] == [1, 2, 4]
    growing = scaled(work(), Layout(), gpus=(1, 2, 1024))
    assert [point.examples for point in growing] == [8, 16, 8192]


def test_a_step_says_how_often_the_teacher_runs():
    window = replace(work(), settings=replace(work().settings, window=True))
    lent = Layout(teacher="offloaded")
    assert [point.teacher_calls for point in scaled(work(), lent, examples=64, gpus=(1, 2, 8))] == [8, 4, 1]
    assert [point.teacher_calls for point in scaled(window, lent, examples=64, gpus=(1, 2, 8))] == [1, 1, 1]
    assert point_of(work(), Layout(teacher="cached"), 8).teacher_calls == 0
    assert point_of(work(teacher=None), Layout(), 8).teacher_calls == 0


def test_one_gpu_is_as_efficient_as_itself():
    alone = point_of(work(), Layout(), 1)
    assert efficiency(alone, alone) == 1.0
    doubled = replace(alone, gpus=2, compute=2 * alone.step, teacher=0.0, interconnect=0.0, revisions=0.0)
    assert efficiency(doubled, alone) == pytest.approx(0.5)


def test_memory_follows_where_the_teacher_is():
    def teachers(layout: Layout, gpus: int = 8) -> int:
        return sum(line.size for line in memory_of(work(), layout, gpus) if "teacher" in line.name)

    fsdp = ENGINES["fsdp2"]
    assert teachers(Layout()) == 14 * BILLION
    assert teachers(Layout(engine=fsdp, teacher="sharded"), gpus=64) < 5 * BILLION
    assert teachers(Layout(engine=fsdp, teacher="sharded"), gpus=1) == 14 * BILLION
    assert teachers(Layout(teacher="sharded")) == 14 * BILLION, "nothing splits it"
    assert teachers(Layout(teacher="cached")) == 2 * work().teacher.head
    assert total(memory_of(work(teacher=None), Layout(), 8)) < total(memory_of(work(), Layout(teacher="cached"), 8))


def test_what_does_not_fit_is_not_taken_for_fitting():
    small = replace(MACHINES["h100"], memory_bytes=24 * BILLION)
    assert not point_of(work(), Layout(machine=small), 8).fits
    assert point_of(work(), Layout(machine=MACHINES["h100"]), 8).fits


@pytest.mark.parametrize("name", ["zero1", "fsdp2"])
def test_no_teacher_is_lent_where_the_code_refuses_to(name):
    with pytest.raises(ValueError, match=f"{name} does not allow; use `sharded`"):
        Layout(engine=ENGINES[name], teacher="offloaded")


def test_a_larger_teacher_is_no_faster():
    larger = work(teacher=size(14 * BILLION))
    assert point_of(larger, Layout(), 8).step > point_of(work(), Layout(), 8).step
