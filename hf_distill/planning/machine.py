"""What a cluster of GPUs can do: the constants that a step's time follows from, each with where it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hf_distill.strict_dataclass import check_known_keys
from hf_distill.wording import did_you_mean

GB = 10**9


@dataclass(frozen=True, kw_only=True)
class Machine:
    """GPUs, and what joins them. Rates are in bytes a second and one direction, where nothing else is said."""

    name: str = field(metadata={"help": "For people."})
    flops: float = field(metadata={"help": "Peak of dense 16 bit products of a GPU, operations a second."})
    memory_bytes: int = field(metadata={"help": "Memory of a GPU."})
    memory_bandwidth: float = field(metadata={"help": "Of a GPU's memory: what the optimizer's step waits for."})
    inside: float = field(metadata={"help": "Links of a GPU to the others of its node."})
    between: float = field(metadata={"help": "Network of a node, all of its adapters together."})
    host: float = field(metadata={"help": "Link of a GPU to the CPU's memory."})
    cpu_bandwidth: float = field(default=300.0 * GB, metadata={"help": "Of a node's CPU memory, for all of its GPUs."})
    per_node: int = field(default=8, metadata={"help": "GPUs of a node."})
    utilisation: float = field(default=0.4, metadata={"help": "Share of flops that a training reaches."})
    reached: float = field(default=0.8, metadata={"help": "Share of a link's rate that long collectives reach."})
    launch_seconds: float = field(
        default=3e-4, metadata={"help": "Least time of a layer's forward, and of its backward: launching its kernels."}
    )
    inside_latency: float = field(default=1.9e-6, metadata={"help": "Seconds of a hop inside a node."})
    between_latency: float = field(default=4.0e-6, metadata={"help": "Seconds of a hop between nodes."})
    disk: float = field(default=3.0 * GB, metadata={"help": "Reading from a node's disk."})
    hub: float = field(default=0.5 * GB, metadata={"help": "Download from the Hub of one node alone."})
    site: float = field(default=1.25 * GB, metadata={"help": "Downloads of all nodes together."})

    def nodes(self, gpus: int) -> int:
        """Return the nodes that so many GPUs take."""
        return -(-gpus // self.per_node)


SOURCES: Mapping[str, str] = {
    "flops": "data sheet of the GPU; half of the figure with sparsity",
    "memory_bytes": "data sheet",
    "memory_bandwidth": "data sheet",
    "inside": "data sheet: half of NVLink's figure, which counts both directions",
    "between": "data sheet of the DGX of that GPU: eight adapters",
    "host": "PCI Express, sixteen lanes of the GPU's generation, less its coding",
    "cpu_bandwidth": "assumption; two sockets of eight channels",
    "per_node": "DGX, HGX",
    "utilisation": "assumption; what plain transformers reach on batches that fill the GPU",
    "reached": "assumption; nccl-tests on such nodes reach about this of large messages",
    "launch_seconds": "assumption; some 25 kernels a layer, launched one by one by Python",
    "inside_latency": "NCCL's own tuning table, ring over NVLink",
    "between_latency": "NCCL's own tuning table, ring over a network",
    "disk": "assumption; one NVMe drive",
    "hub": "assumption",
    "site": "assumption; 10 Gbit/s to the internet",
}
"""Where the constants of `MACHINES` come from, by field."""

MACHINES: Mapping[str, Machine] = {
    "h100": Machine(
        name="H100 SXM 80 GB, 8 × 400 Gbit/s InfiniBand",
        flops=989e12,
        memory_bytes=80 * GB,
        memory_bandwidth=3350 * GB,
        inside=450 * GB,
        between=400 * GB,
        host=55 * GB,
    ),
    "a100": Machine(
        name="A100 SXM 80 GB, 8 × 200 Gbit/s InfiniBand",
        flops=312e12,
        memory_bytes=80 * GB,
        memory_bandwidth=2039 * GB,
        inside=300 * GB,
        between=200 * GB,
        host=25 * GB,
    ),
    "a100_40": Machine(
        name="A100 SXM 40 GB, 8 × 200 Gbit/s InfiniBand",
        flops=312e12,
        memory_bytes=40 * GB,
        memory_bandwidth=1555 * GB,
        inside=300 * GB,
        between=200 * GB,
        host=25 * GB,
    ),
    "l4": Machine(
        name="L4 24 GB without NVLink, 100 Gbit/s Ethernet",
        flops=121e12,
        memory_bytes=24 * GB,
        memory_bandwidth=300 * GB,
        inside=12.5 * GB,
        between=12.5 * GB,
        host=25 * GB,
    ),
}
"""Machines by name."""


def machine_named(name: str, changes: Sequence[str] = ()) -> Machine:
    """Return a machine, some of its constants changed.

    Args:
        name: Of `MACHINES`.
        changes: `field=number` each.

    Raises:
        ValueError: There is no such machine or field, or a constant is no positive number.
    """
    if name not in MACHINES:
        raise ValueError(f"there is no machine {name!r}; known: {', '.join(MACHINES)}.{did_you_mean(name, MACHINES)}")
    pairs = [change.partition("=") for change in changes]
    constants = {key.strip(): _number(change, value) for change, (key, _, value) in zip(changes, pairs, strict=True)}
    check_known_keys(constants, SOURCES, path="machine")
    return dataclasses.replace(MACHINES[name], **constants)


def _number(change: str, value: str) -> Any:
    try:
        number = float(value)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise ValueError(f"a constant of a machine is given as FIELD=NUMBER, above 0 (between=12.5e9), got {change!r}")
    return int(number) if number.is_integer() else number
