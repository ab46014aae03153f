"""Prints how far each engine, on two CPU processes, ends from one process.

    OMP_NUM_THREADS=1 python tests/engine_table.py ddp fsdp2 zero1 zero2 zero3 --output table.md

It lies beside the cells that the tests of the engines compare, and shows what they found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch
from engine_cells import CELLS, HEADS, WAYS, deviation, found_of, prepare
from engines import ENGINES
from launching import TESTS, Found, run_two_ranks

from hf_distill.atomic import atomic_write_text

ABSENT = "–"


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
    rows = [["way", "head", *engines], [":---", ":---", *[":---"] * len(engines)]]
    for way in WAYS:
        for head in HEADS:
            rows.append([way, f"`{head}`", *(shown(found, engine, way, head) for engine in engines)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def shown(found: dict[str, Found], engine: str, way: str, head: str) -> str:
    """Return a cell for people."""
    if (way, head) not in CELLS:
        return ABSENT
    one = deviation(found[engine], found["alone"], f"{way}/{head}")
    return f"{one.losses:.0e} / {one.update:.0e}"


def largest(found: dict[str, Found]) -> str:
    """Return a sentence with the largest deviation of each kind."""
    deviations = [
        deviation(found[engine], found["alone"], f"{way}/{head}")
        for engine in found
        for way, head in CELLS
        if engine != "alone"
    ]
    kinds = zip(*deviations, strict=True)
    losses, update, beside, held_out = (f"{max(kind):.0e}" for kind in kinds)
    return (
        f"Largest of {len(deviations)} cells: losses {losses}, update of the student {update}, update of projectors "
        f"{beside}, held-out metric {held_out}."
    )


def page(found: dict[str, Found]) -> str:
    """Return the table as Markdown, with what it was made by."""
    libraries = ["torch", "transformers", "accelerate"]
    libraries += ["deepspeed"] if any(engine.startswith("zero") for engine in found) else []
    used = ", ".join(f"{name} {version(name)}" for name in libraries)
    command = " ".join(["python", "tests/engine_table.py", *(engine for engine in found if engine != "alone")])
    heading = f"`{command}`, {date.today().isoformat()}; {used}."
    return f"{heading}\n\n{table(found)}\n\n{largest(found)}\n"


def main() -> None:
    """Measure, print the table and write it where asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [engine for engine in ENGINES if engine != "alone"]
    parser.add_argument("engines", nargs="*", metavar="ENGINE", help=f"of {', '.join(known)}; default: all")
    parser.add_argument("--output", type=Path, default=None, help="also write the table there, as Markdown")
    options = parser.parse_args()
    unknown = sorted(set(options.engines) - set(known))
    if unknown:
        parser.error(f"no engine {', '.join(unknown)}; there are {', '.join(known)}")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        found = measured(options.engines or known, Path(name))
    text = page(found)
    sys.stdout.write(text)
    if options.output is not None:
        atomic_write_text(options.output, text)


if __name__ == "__main__":
    main()
