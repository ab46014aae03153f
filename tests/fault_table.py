"""Injects faults into one of two CPU processes; prints what became of the run, and whether it goes on bitwise.

    OMP_NUM_THREADS=1 python tests/fault_table.py --output table.md

Nobody ends the processes that a fault has spared, as torchrun and schedulers would: they stop by themselves.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from builders import save_teacher_run
from fault_cases import FAULTS, NOTE, RUN, live
from faulty_ranks import STEPS
from launching import run_forked

from hf_distill.atomic import atomic_write_text
from hf_distill.teachers.checkpoint_files import find_last_whole_checkpoint

HEADER = ("fault", "what happens", "exit codes", "seconds to the end", "steps lost", "goes on", "test")


class Outcome(NamedTuple):
    """What became of a run.

    Attributes:
        codes: Exit codes, by rank.
        seconds: From the fault to the end of the last rank.
        lost: Steps that had been done and have to be done again.
        same: Whether it then ended with bitwise the weights of an undisturbed run.
    """

    codes: list[int]
    seconds: float
    lost: int
    same: bool


def outcome(name: str, folder: Path, whole: torch.Tensor) -> Outcome:
    """Run into a fault, and on from there."""
    ended = run_forked(live, folder, name)
    end = time.time()
    assert (folder / NOTE).exists(), [one.errors[-3000:] for one in ended]
    fault = json.loads((folder / NOTE).read_text())
    assert any(FAULTS[name].says in one.errors for one in ended), [one.errors[-3000:] for one in ended]
    last = find_last_whole_checkpoint(folder / RUN)
    reached = int(last.name.split("-")[1]) if last is not None else 0
    if any(one.code for one in ended):
        again = run_forked(live, folder, None)
        assert not any(one.code for one in again), again[0].errors[-3000:]
    found = [torch.load(folder / f"rank{rank}.pt")["weights"] for rank in range(2)]
    assert torch.equal(*found)
    codes = [one.code for one in ended]
    return Outcome(codes, end - fault["time"], max(fault["step"] - reached, 0), torch.equal(found[0], whole))


def rows(folder: Path) -> list[list[str]]:
    """Run into each fault."""
    save_teacher_run(folder / "teacher")

    def fresh(name: str) -> Path:
        (folder / name).mkdir()
        shutil.copytree(folder / "teacher", folder / name / "teacher")
        return folder / name

    assert not any(one.code for one in run_forked(live, fresh("whole"), None))
    whole = torch.load(folder / "whole" / "rank0.pt")["weights"]
    made = []
    for number, (name, fault) in enumerate(FAULTS.items()):
        found = outcome(name, fresh(f"fault-{number}"), whole)
        codes, ended = " and ".join(map(str, found.codes)), any(found.codes)
        goes_on = ("bitwise" if found.same else "ELSEWHERE") if ended else "without the step"
        seconds, lost = (f"{found.seconds:.2f}", str(found.lost)) if ended else ("–", "that one")
        made.append([name, fault.happens, codes, seconds, lost, goes_on, f"`{fault.test}`"])
    return made


def page(found: list[list[str]]) -> str:
    """Return the table as Markdown, with what it was made by."""
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "accelerate"))
    run = f"{STEPS} steps, one checkpoint in three"
    lines = [f"`python tests/fault_table.py`, {date.today().isoformat()}; {libraries}; {run}."]
    table = [HEADER, [":---"] * len(HEADER), *found]
    return "\n".join([*lines, "", *(f"| {' | '.join(row)} |" for row in table), ""])


def main() -> None:
    """Run into each fault, print the table and write it where asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=None, help="also write the table there, as Markdown")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        text = page(rows(Path(name)))
    sys.stdout.write(text)
    if options.output is not None:
        atomic_write_text(options.output, text)


if __name__ == "__main__":
    main()
