"""Times of collectives, against rings and trees that are walked hop by hop."""

from __future__ import annotations

import itertools

import pytest

from hf_distill.planning.collectives import all_reduce_seconds, gather_seconds, link_rate
from hf_distill.planning.machine import MACHINES, Machine, machine_named

MACHINE = MACHINES["h100"]
INSTANT = machine_named("h100", ["inside_latency=1e-30", "between_latency=1e-30"])


def bytes_through_a_link(gpus: int, size: int) -> int:
    """What each link of a ring passes on until all GPUs have all pieces, piece by piece."""
    piece, have = size // gpus, {gpu: {gpu} for gpu in range(gpus)}
    sent = 0
    for turn in range(gpus - 1):
        sending = {gpu: (gpu - turn) % gpus for gpu in range(gpus)}
        assert all(sending[gpu] in have[gpu] for gpu in have)
        for gpu in range(gpus):
            have[(gpu + 1) % gpus].add(sending[gpu])
        sent += piece
    assert all(len(pieces) == gpus for pieces in have.values())
    return sent


@pytest.mark.parametrize("gpus", [2, 4, 8, 16, 64])
def test_what_a_link_passes_on_is_walked_and_told_alike(gpus):
    size = 64 * 10**9
    seconds = bytes_through_a_link(gpus, size) / link_rate(MACHINE, gpus)
    assert gather_seconds(INSTANT, size, gpus) == pytest.approx(seconds)
    assert all_reduce_seconds(INSTANT, size, gpus) == pytest.approx(2 * seconds)


def hops(machine: Machine, gpus: int) -> float:
    """Seconds of a tiny message once around the ring, from each GPU to the next of its node, or to the next node."""
    nodes = [gpu // machine.per_node for gpu in range(gpus)]
    return sum(
        machine.inside_latency if here == there else machine.between_latency
        for here, there in itertools.pairwise(nodes)
    )


@pytest.mark.parametrize("gpus", [2, 8, 16, 24, 1024])
def test_a_call_with_nothing_to_send_runs_once_around(gpus):
    assert gather_seconds(MACHINE, 0, gpus, calls=3) == pytest.approx(3 * hops(MACHINE, gpus))


def test_sums_over_many_nodes_take_a_tree():
    tree = 7 * MACHINE.inside_latency + 7 * MACHINE.between_latency
    assert all_reduce_seconds(MACHINE, 0, 1024) == pytest.approx(2 * tree)
    assert all_reduce_seconds(MACHINE, 0, 1024) < 2 * gather_seconds(MACHINE, 0, 1024) / 50


def test_the_slower_link_holds_up_the_ring():
    slow = machine_named("h100", ["between=12.5e9"])
    assert link_rate(slow, 8) == MACHINE.reached * MACHINE.inside
    assert link_rate(slow, 16) == MACHINE.reached * 12.5e9


def test_one_gpu_has_nobody_to_wait_for():
    assert all_reduce_seconds(MACHINE, 1e9, 1, calls=9) == gather_seconds(MACHINE, 1e9, 1, calls=9) == 0.0
