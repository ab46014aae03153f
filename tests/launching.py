"""Processes of their own that tests start: two ranks under torchrun, and runs that end themselves with SIGKILL."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch.nn.parallel import DistributedDataParallel

from hf_distill import ProgressiveDistillTrainer

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
PYTHONPATH = os.pathsep.join([str(ROOT), str(TESTS)])
RANKS = 2
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(RANKS))
KILLED = ("killed_run", "killed_pipeline", "killed_seq2seq", "faulty_run")
"""Modules whose functions `run_alone` runs; they are imported once for all."""

Found = dict[str, torch.Tensor]


def once_for_all(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Any]) -> Path:
    """Return a folder that `make` fills for the first test that asks, in whichever of xdist's workers it runs."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"once-{name}"
    made = folder.with_suffix(".made")
    with FileLock(folder.with_suffix(".lock")):
        if not made.exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            made.touch()
    return folder


# ---- ranks ----


def launch_two_ranks(*arguments: str | Path, seconds: float | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script, or `-m` and a module, on two CPU processes that may fail, for at most so many seconds."""
    return subprocess.run(
        [sys.executable, *TORCHRUN, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


def run_two_ranks(*arguments: str | Path) -> str:
    """Run a script, or `-m` and a module, on two CPU processes; return what they printed."""
    done = launch_two_ranks(*arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def found_by_two_ranks(script: str, factory: pytest.TempPathFactory) -> tuple[Found, ...]:
    """Run a script of the tests' folder that ends with `save_found`; return what each rank found."""
    folder = once_for_all(factory, Path(script).stem, lambda folder: run_two_ranks(TESTS / script, folder))
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


# ---- runs that are killed ----


def run_alone(work: Callable[..., Any], folder: Path, *arguments: Any) -> tuple[int, str]:
    """Run a function of `KILLED` on a folder in a process of its own; return its exit code and what it complained of.

    The code of a process that a signal has ended is the signal's number, negative.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(KILLED))
    errors = folder.with_suffix(".errors")
    process = context.Process(target=_run_alone, args=(errors, work, folder, *arguments))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PYTHONPATH)  # of the server that imports and forks
        process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode, errors.read_text(encoding="utf-8")


def run_until_killed(work: Callable[..., Any], folder: Path, *arguments: Any) -> None:
    """Run a function of `KILLED` on a folder, in a process that it is expected to end with SIGKILL."""
    code, errors = run_alone(work, folder, *arguments)
    assert code == -signal.SIGKILL, f"{arguments}: {errors}"


def _run_alone(errors: Path, work: Callable[..., Any], *arguments: Any) -> None:
    sys.stderr = errors.open("w", encoding="utf-8", buffering=1)
    torch.set_num_threads(1)
    work(*arguments)
