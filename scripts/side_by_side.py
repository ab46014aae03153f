"""Several ways to do the same work, side by side: times in turns, memory in a process of its own each."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

MIB = 2**20
CPU = torch.device("cpu")


def figures_parser(description: str | None, **numbers: int) -> argparse.ArgumentParser:
    """Return a parser of whole numbers, given with their defaults, and of a file for the figures."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in numbers.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=f"default: {default}")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    return parser


def own_device() -> torch.device:
    """Return the GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def wait_for(device: torch.device) -> None:
    """Wait until all that was asked of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def times_in_turns(
    ways: Mapping[str, Callable[[], object]], rounds: int, device: torch.device = CPU
) -> dict[str, list[float]]:
    """Run each way once unmeasured, then all of them in turns; return the seconds of each round.

    In turns, so that whatever else the machine does falls on all of them alike.
    """
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            wait_for(device)
            began = time.perf_counter()
            way()
            wait_for(device)
            seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], name: str, to: str) -> float:
    """Return the median over rounds of one way's time divided by another's in the same round."""
    return statistics.median(a / b for a, b in zip(seconds[name], seconds[to], strict=True))


def resident(which: str) -> float:
    """Return a line of the process's status in MiB: `VmRSS` now, `VmHWM` at most (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


def extra_memory(work: Callable[[], object], device: torch.device = CPU) -> float:
    """Return by how many MiB the resident memory, or what is allocated on a GPU, rises at most while `work` runs."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    # Forgets the peak so far; `ru_maxrss` would not do, a process inherits it from the one that started it.
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    work()
    return resident("VmHWM") - before


def in_own_process(*arguments: str) -> float:
    """Run this script again with other arguments and return the number that it prints last."""
    done = subprocess.run([sys.executable, sys.argv[0], *arguments], capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))
