"""Prints how far each engine, on two CPU processes, ends from one process.

`python tests/engine_table.py ddp fsdp2 zero1 zero2 zero3`
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from engine_cells import HEADS, WAYS, deviation, found_of, prepare
from engines import ENGINES
from launching import TESTS, Found, run_two_ranks


def measured(engines: list[str], folder: Path) -> dict[str, Found]:
    """Run all cells in one process and under each engine."""
    (folder / "prepared").mkdir()
    prepare(folder / "prepared")
    found = {"alone": found_of("alone", folder / "prepared", folder / "work")}
    for engine in engines:
        (folder / engine).mkdir()
        run_two_ranks(TESTS / "engine_cells.py", engine, folder / engine, folder / "prepared")
        found[engine] = torch.load(folder / engine / "rank0.pt")
        assert found[engine].pop("world") == 2
    return found


def table(found: dict[str, Found]) -> str:
    """Return a row a way and head, a column an engine: deviation of the losses / of the update."""
    engines = [engine for engine in found if engine != "alone"]
    rows = [["way", "head", *engines], ["---"] * (2 + len(engines))]
    for way in WAYS:
        for head in HEADS:
            deviations = [deviation(found[engine], found["alone"], f"{way}/{head}") for engine in engines]
            rows.append([way, head, *(f"{one.losses:.0e} / {one.update:.0e}" for one in deviations)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = sys.argv[1:] or [engine for engine in ENGINES if engine != "alone"]
    with tempfile.TemporaryDirectory() as name:
        sys.stdout.write(table(measured(wanted, Path(name))) + "\n")
