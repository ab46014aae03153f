"""Processes of their own that tests start: two ranks under torchrun, and runs that end themselves with SIGKILL."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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
KILLED = ("killed_run", "killed_pipeline", "killed_seq2seq", "faulty_run", "resumed_ranks", "launched_run")
"""Modules whose functions `run_alone` and `run_forked` run; they are imported once for all."""

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


class Ended(NamedTuple):
    """How a process of `run_alone` or `run_forked` ended.

    Attributes:
        code: Its exit code; of a process that a signal has ended, the signal's number, negative.
        errors: What it complained of.
    """

    code: int
    errors: str


def run_alone(work: Callable[..., Any], folder: Path, *arguments: Any) -> Ended:
    """Run a function of `KILLED` on a folder in a process of its own."""
    (ended,) = run_forked(work, folder, *arguments, ranks=None)
    return ended


def run_forked(work: Callable[..., Any], folder: Path, *arguments: Any, ranks: int | None = RANKS) -> list[Ended]:
    """Run a function of `KILLED` on a folder in ranks of one group, for which nothing is imported anew.

    Nobody ends a rank whose fellows have ended, as torchrun would.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(KILLED))
    port = free_port()
    environments = [
        {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for rank in range(ranks or 0)
    ]
    files, processes = [], []
    for rank, environment in enumerate(environments or [{}]):
        files.append(folder.with_suffix(f".errors{rank}"))
        target = (files[-1], {key: str(value) for key, value in environment.items()}, work, folder, *arguments)
        processes.append(context.Process(target=_run_forked, args=target))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", PYTHONPATH)  # of the server that imports and forks
        for process in processes:
            process.start()
    for process in processes:
        process.join()
    return [Ended(process.exitcode, file.read_text()) for process, file in zip(processes, files, strict=True)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def run_until_killed(work: Callable[..., Any], folder: Path, *arguments: Any) -> None:
    """Run a function of `KILLED` on a folder, in a process that it is expected to end with SIGKILL."""
    code, errors = run_alone(work, folder, *arguments)
    assert code == -signal.SIGKILL, f"{arguments}: {errors}"


def _run_forked(errors: Path, environment: dict[str, str], work: Callable[..., Any], *arguments: Any) -> None:
    sys.stderr = errors.open("w", encoding="utf-8", buffering=1)
    os.environ.update(environment)
    torch.set_num_threads(1)
    work(*arguments)
