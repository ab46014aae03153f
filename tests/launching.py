"""Processes of their own that tests start: two ranks under torchrun, and runs that end themselves with SIGKILL."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from hf_distill import ProgressiveDistillTrainer

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
RANKS = 2
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(RANKS))

Found = dict[str, torch.Tensor]


def run_python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run an interpreter that finds the package and the tests' helpers."""
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(TESTS)])},
        capture_output=True,
        text=True,
        check=False,
    )


def run_two_ranks(*arguments: str | Path) -> str:
    """Run a script, or `-m` and a module, on two CPU processes; return what they printed."""
    done = run_python(*TORCHRUN, *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def found_by_two_ranks(script: str, folder: Path) -> tuple[Found, ...]:
    """Run a script of the tests' folder that ends with `save_found`; return what each rank found."""
    run_two_ranks(TESTS / script, folder)
    found = tuple(torch.load(folder / f"rank{rank}.pt") for rank in range(RANKS))
    # `accelerate launch` without a GPU would have started one process and said nothing.
    assert [one["world"].item() for one in found] == [RANKS] * RANKS
    return found


def save_found(found: Found, folder: Path) -> None:
    """Hand over what this rank found; the last thing a script does."""
    distributed = torch.distributed
    world = torch.tensor(distributed.get_world_size())
    torch.save({**found, "world": world}, folder / f"rank{distributed.get_rank()}.pt")
    distributed.destroy_process_group()


def assert_wrapped(trainer: ProgressiveDistillTrainer) -> None:
    """Check that a trained student was wrapped as the number of processes asks for."""
    assert isinstance(trainer.model_wrapped, DistributedDataParallel) == (trainer.accelerator.num_processes > 1)


def run_until_killed(*arguments: str | Path) -> None:
    """Run a script that is expected to end itself with SIGKILL."""
    done = run_python(*arguments)
    assert done.returncode == -signal.SIGKILL, f"{done.args}: {done.stderr[-3000:]}"
