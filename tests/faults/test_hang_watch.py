"""Who holds up the others: told from where each rank says it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from launching import PYTHONPATH

from hf_distill.faults.hang_watch import EXIT_CODE, FOLDER, HangWatch, Report, limit_of, read_reports, verdict

GATHER = ['  File "/lib/torch/distributed/distributed_c10d.py", line 4287, in all_gather\n    work.wait()\n']
OWN = ['  File "collator.py", line 7, in tokenize\n    lock.acquire()\n']


def report(rank: int, **overrides: Any) -> Report:
    values = {"host": f"node{rank}", "process": 100 + rank, "step": 5, "place": 2, "doing": "in the backward"}
    return Report(**{**values, "rank": rank, "seconds": 61.0, "stack": GATHER, **overrides})


def told(*reports: Report, ranks: int = 3) -> str:
    return verdict({one.rank: one for one in reports}, ranks=ranks, folder=Path("out"))


def test_the_rank_that_is_behind_is_named_with_its_place():
    text = told(report(0), report(1, place=0, doing="fetching its batches", stack=OWN), report(2))
    assert "rank 1 of 3 (process 101 on node1) has been at step 5, fetching its batches, for 61 s" in text
    assert 'in File "collator.py", line 7, in tokenize lock.acquire()' in text
    assert "rank 0" not in text and "rank 2" not in text


def test_of_ranks_at_one_place_the_one_that_does_not_wait_is_named():
    assert "rank 2 of 3" in told(report(0), report(1), report(2, stack=OWN))


def test_a_rank_an_epoch_behind_is_named_though_its_place_is_later():
    assert "rank 0 of 3" in told(report(0, step=4, place=9), report(1), report(2))


def test_a_rank_that_cannot_write_is_named():
    assert "rank 1 of 3 says nothing" in told(report(0), report(2))


def test_ranks_that_all_wait_blame_the_network():
    assert "all 3 ranks wait for each other (step 5, in the backward): suspect the network" in told(
        *map(report, range(3))
    )


def test_collectives_wait_longer_than_the_watch():
    assert 0 < limit_of(1800.0) < 1800.0


def test_a_watch_that_ends_leaves_nothing_behind(tmp_path):
    with HangWatch(tmp_path, rank=0, ranks=2, limit=60.0) as watch:
        watch.mark(1, "in the forward")
    assert not (tmp_path / FOLDER).exists()


def test_a_report_of_an_earlier_run_is_not_believed(tmp_path):
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "rank-0.json").write_text(json.dumps({"rank": 0}))
    with HangWatch(tmp_path, rank=0, ranks=2, limit=60.0):
        assert read_reports(tmp_path / FOLDER) == {}


@pytest.mark.slow
def test_a_process_without_marks_ends_with_its_report(tmp_path):
    """One of two ranks, so that the other one says nothing."""
    script = (
        "import sys, threading\n"
        "from hf_distill.faults.hang_watch import HangWatch\n"
        "with HangWatch(sys.argv[1], rank=1, ranks=2, limit=0.5):\n"
        "    threading.Event().wait()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == EXIT_CODE == 75
    assert "rank 0 of 2 says nothing" in done.stderr
    (found,) = read_reports(tmp_path / FOLDER).values()
    assert found.rank == 1 and found.seconds > 0.5
    assert any("<module>" in frame for frame in found.stack)


@pytest.mark.slow
def test_a_process_in_which_no_python_can_run_ends_too(tmp_path):
    """The watch's thread cannot run while C code holds the interpreter's lock; Python's own watchdog can."""
    script = (
        "import ctypes, sys, threading\n"
        "from hf_distill.faults.hang_watch import HangWatch\n"
        "with HangWatch(sys.argv[1], rank=1, ranks=2, limit=0.5):\n"
        "    threading.Event().wait(0.2)\n"
        "    ctypes.PyDLL(None).sleep(100)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr and "<string>" in done.stderr
