"""Times of a step's parts, against sums done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scaled_work import BILLION, size, work

from hf_distill.planning.arithmetic import forward_flops, train_flops
from hf_distill.planning.collectives import all_reduce_seconds, gather_seconds
from hf_distill.planning.engines import ENGINES, Engine
from hf_distill.planning.machine import MACHINES, machine_named
from hf_distill.planning.step_time import (
    compute_seconds,
    exact_cache,
    gradient_seconds,
    optimizer_seconds,
    revision_seconds,
    teacher_seconds,
)

MACHINE = MACHINES["h100"]
RATE = MACHINE.flops * MACHINE.utilisation


def test_compute_is_arithmetic_over_the_rate():
    found = compute_seconds(work().student, work(), MACHINE)
    assert sum(found) == pytest.approx(train_flops(work().student, work().shape, causal=True) / RATE)
    again = compute_seconds(work().student, work(checkpointing=True), MACHINE)
    assert again.backward == pytest.approx(found.backward + found.forward), "activations are computed anew"


def test_a_few_tokens_take_as_long_as_launching_their_layers():
    slow = machine_named("h100", ["launch_seconds=1"])
    assert compute_seconds(work().student, work(), slow) == (10.0, 10.0)


def test_the_optimizer_reads_and_writes_adams_numbers():
    # Gradient, weight and two moments are read, the last three written: 7 numbers of 4 bytes.
    assert optimizer_seconds(work(), ENGINES["ddp"], MACHINE, 8) == pytest.approx(28 * BILLION / 3.35e12)
    assert optimizer_seconds(work(), ENGINES["zero1"], MACHINE, 8) == pytest.approx(28 * BILLION / 8 / 3.35e12)
    on_cpu = 28 * BILLION / 8 / (MACHINE.cpu_bandwidth / 8) + (2 + 2) * BILLION / 8 / MACHINE.host
    assert optimizer_seconds(work(), ENGINES["zero2_offload"], MACHINE, 8) == pytest.approx(on_cpu)


@pytest.mark.parametrize("name", ENGINES)
def test_one_gpu_waits_for_nobody(name):
    assert gradient_seconds(work(), ENGINES[name], MACHINE, 1) == 0.0


def test_ddp_waits_for_its_last_bucket_or_for_what_the_backward_does_not_hide():
    gradients = 4 * BILLION
    calls = -(-gradients // (25 * 2**20))
    seconds = all_reduce_seconds(MACHINE, gradients, 16, calls=calls)
    assert gradient_seconds(work(), ENGINES["ddp"], MACHINE, 16) == pytest.approx(seconds / calls)
    slow = machine_named("h100", ["between=1e9"])
    backward = compute_seconds(work().student, work(), slow).backward
    seconds = all_reduce_seconds(slow, gradients, 16, calls=calls)
    assert seconds > backward
    assert gradient_seconds(work(), ENGINES["ddp"], slow, 16) == pytest.approx(seconds - backward)
    waiting = Engine(name="ddp", overlaps=False)
    assert gradient_seconds(work(), waiting, slow, 16) == pytest.approx(seconds)


@pytest.mark.parametrize(("name", "times"), [("zero1", 1), ("zero2", 4)])
def test_deepspeed_sums_up_behind_the_backward_and_puts_the_weights_together(name, times):
    summed = all_reduce_seconds(MACHINE, 2 * BILLION, 16, calls=2)
    together = gather_seconds(MACHINE, 2 * BILLION, 16, calls=2)
    found = gradient_seconds(work(accumulation=4), ENGINES[name], MACHINE, 16)
    assert found == pytest.approx(times * summed + together)


def test_split_weights_are_put_together_in_each_micro_batch():
    slow = machine_named("h100", ["between=1e9"])
    large = work(student=size(2 * BILLION))
    one = compute_seconds(large.student, large, slow)
    gather = gather_seconds(slow, 4 * BILLION, 16, calls=11)
    fsdp = 2 * gather - one.forward - one.backward + gather
    assert gradient_seconds(large, ENGINES["fsdp2"], slow, 16) == pytest.approx(fsdp)
    assert gradient_seconds(large, ENGINES["zero3"], slow, 16) == pytest.approx(fsdp)
    both = work(student=size(2 * BILLION), accumulation=2)
    assert gradient_seconds(both, ENGINES["zero3"], slow, 16) == pytest.approx(2 * fsdp)
    assert gradient_seconds(both, ENGINES["fsdp2"], slow, 16) == pytest.approx(2 * fsdp - gather), "one sum of two"


def test_a_model_that_zero3_keeps_together_is_put_together_once():
    slow = machine_named("h100", ["between=1e9"])
    fsdp, zero = (gradient_seconds(work(), ENGINES[name], slow, 16) for name in ("fsdp2", "zero3"))
    assert fsdp - zero == pytest.approx(gather_seconds(slow, 2 * BILLION, 16, calls=11))


def test_weights_on_the_cpu_come_over_the_hosts_link_too():
    slow = machine_named("h100", ["between=1e9"])
    there, here = (gradient_seconds(work(), ENGINES[name], slow, 16) for name in ("fsdp2_offload", "fsdp2"))
    assert there - here == pytest.approx(2 * 2 * BILLION / 16 / slow.host)


def test_a_teacher_takes_its_forward_in_each_micro_batch():
    forward = forward_flops(work().teacher, work().shape, causal=True) / RATE
    found = teacher_seconds(work(accumulation=3), "replicated", ENGINES["ddp"], MACHINE, 8)
    assert found == pytest.approx((3 * forward, 0.0))
    assert teacher_seconds(work(), "sharded", ENGINES["ddp"], MACHINE, 8) == pytest.approx((forward, 0.0)), "whole"
    lent = teacher_seconds(work(), "offloaded", ENGINES["ddp"], MACHINE, 8)
    assert lent == pytest.approx((forward + 14 * BILLION / MACHINE.host, 0.0))
    assert teacher_seconds(work(teacher=None), "replicated", ENGINES["ddp"], MACHINE, 8) == (0.0, 0.0)


@pytest.mark.parametrize(("window", "examples", "calls"), [(False, None, 6), (True, None, 1), (True, 32, 2)])
def test_lent_weights_are_copied_once_a_call_and_not_once_a_micro_batch(window, examples, calls):
    base = work(accumulation=6)
    asked = replace(base, settings=replace(base.settings, window=window, window_examples=examples))
    arithmetic = 6 * forward_flops(base.teacher, base.shape, causal=True) / RATE
    copied = 14 * BILLION / MACHINE.host
    found = teacher_seconds(asked, "offloaded", ENGINES["ddp"], MACHINE, 8)
    assert found == pytest.approx((arithmetic + calls * copied, 0.0))
    here = teacher_seconds(asked, "replicated", ENGINES["ddp"], MACHINE, 8)
    assert here == pytest.approx((arithmetic, 0.0))
    split = teacher_seconds(asked, "replicated", ENGINES["zero1"], MACHINE, 8)
    assert split == pytest.approx((arithmetic, 0.0)), "DeepSpeed has each micro-batch answered by itself"


def test_a_call_for_a_window_launches_its_layers_once():
    slow, base = machine_named("h100", ["launch_seconds=1"]), work(accumulation=4)
    joined = replace(base, settings=replace(base.settings, window=True))
    assert teacher_seconds(base, "replicated", ENGINES["ddp"], slow, 8).work == 4 * 10.0
    assert teacher_seconds(joined, "replicated", ENGINES["ddp"], slow, 8).work == 10.0
    assert teacher_seconds(joined, "replicated", ENGINES["zero2"], slow, 8).work == 4 * 10.0


def test_a_split_teacher_waits_for_its_first_layer_or_for_what_the_forward_does_not_hide():
    forward = forward_flops(work().teacher, work().shape, causal=True) / RATE
    gather = gather_seconds(MACHINE, 14 * BILLION, 16, calls=11)
    found = teacher_seconds(work(), "sharded", ENGINES["fsdp2"], MACHINE, 16)
    assert found == pytest.approx((forward, max(gather - forward, gather / 11)))
    slow = machine_named("h100", ["between=1e9"])
    gather = gather_seconds(slow, 14 * BILLION, 16, calls=11)
    found = teacher_seconds(work(), "sharded", ENGINES["fsdp2"], slow, 16)
    assert found.waiting == pytest.approx(gather - forward)


def test_cached_targets_are_read_by_all_gpus_of_a_node_at_a_time():
    head = 2 * 2000 * work().teacher.head / RATE
    for gpus, together in ((1, 1), (8, 8), (64, 8)):
        found = teacher_seconds(work(accumulation=2), "cached", ENGINES["ddp"], MACHINE, gpus)
        assert found.work == pytest.approx(2 * (together * 2000 * 2 * 1000 / MACHINE.disk + head))
    assert exact_cache(work().teacher, 1).codec == "hidden"
    assert exact_cache(size(10**6), 1).codec == "logits"


def test_a_download_that_a_stage_hides_costs_its_copy_only():
    copied = 14 * BILLION / MACHINE.host / 1000
    assert revision_seconds(work(), "replicated", MACHINE, 8, step=1.0) == pytest.approx(copied)
    assert revision_seconds(work(), "sharded", MACHINE, 8, step=1.0) == pytest.approx(copied / 8)
    assert revision_seconds(work(), "offloaded", MACHINE, 8, step=1.0) == 0.0
    assert revision_seconds(work(), "cached", MACHINE, 8, step=0.0) == 0.0
    assert revision_seconds(work(revision_steps=None), "replicated", MACHINE, 8, step=0.0) == 0.0


def test_nodes_share_the_line_to_the_hub_unless_they_share_a_cache():
    size_, copied = 14 * BILLION, 14 * BILLION / MACHINE.host
    alone = (size_ / MACHINE.hub + size_ / MACHINE.disk - 10 + copied) / 1000
    assert revision_seconds(work(), "replicated", MACHINE, 8, step=0.01) == pytest.approx(alone)
    many = (128 * size_ / MACHINE.site + size_ / MACHINE.disk - 10 + copied) / 1000
    assert revision_seconds(work(), "replicated", MACHINE, 1024, step=0.01) == pytest.approx(many)
    one = revision_seconds(work(), "replicated", MACHINE, 1024, step=0.01, shared_cache=True)
    assert one == pytest.approx(alone)
