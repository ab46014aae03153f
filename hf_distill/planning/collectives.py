"""How long processes take to add up or to exchange tensors: ring collectives, over the slowest link on the way."""

from __future__ import annotations

import math

from hf_distill.planning.machine import Machine


def all_reduce_seconds(machine: Machine, size: float, gpus: int, *, calls: int = 1) -> float:
    """Return the seconds until every GPU has the sum of a tensor: 2·(N − 1)/N of it passes each link of a ring.

    What each call takes at least is that of a ring or of a tree, whichever is less, as NCCL chooses.

    Args:
        machine: Its links.
        size: Bytes of the tensor on each GPU.
        gpus: N.
        calls: Into which the tensor is cut.
    """
    if gpus == 1:
        return 0.0
    nodes = machine.nodes(gpus)
    tree = (min(gpus, machine.per_node) - 1) * machine.inside_latency
    tree += math.ceil(math.log2(nodes)) * machine.between_latency
    return 2 * (_transfer(machine, size, gpus) + calls * min(tree, _ring_latency(machine, gpus)))


def gather_seconds(machine: Machine, size: float, gpus: int, *, calls: int = 1) -> float:
    """Return the seconds until every GPU has a tensor of which each holds 1/N, or 1/N of the sum of one.

    An all-gather and a reduce-scatter pass (N − 1)/N of the tensor through each link of a ring; every call runs once
    around, however small it is.

    Args:
        machine: Its links.
        size: Bytes of the whole tensor.
        gpus: N.
        calls: Into which the tensor is cut.
    """
    if gpus == 1:
        return 0.0
    return _transfer(machine, size, gpus) + calls * _ring_latency(machine, gpus)


def link_rate(machine: Machine, gpus: int) -> float:
    """Return the bytes a second that a ring passes on: that of the slower link.

    A node has several rings, as many as adapters, so that all adapters together count against the links of one GPU.
    """
    inside = machine.nodes(gpus) == 1
    return machine.reached * (machine.inside if inside else min(machine.inside, machine.between))


def _transfer(machine: Machine, size: float, gpus: int) -> float:
    return (gpus - 1) / gpus * size / link_rate(machine, gpus)


def _ring_latency(machine: Machine, gpus: int) -> float:
    nodes = machine.nodes(gpus)
    return (gpus - nodes) * machine.inside_latency + (nodes - 1) * machine.between_latency
