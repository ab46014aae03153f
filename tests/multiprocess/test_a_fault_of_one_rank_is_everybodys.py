"""One of two processes meets a fault: both stop, at one step, say why, and the run can go on."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from faulty_ranks import STEPS
from launching import RANKS, TESTS, Found, launch_two_ranks, once_for_all, run_two_ranks

from hf_distill.faults.hang_watch import EXIT_CODE as HUNG
from hf_distill.teachers.checkpoint_files import find_last_whole_checkpoint

SCRIPT = TESTS / "faulty_ranks.py"
ENDED_IN = 120.0
"""Seconds, start of the processes included, on a busy machine."""

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


def found_in(folder: Path) -> list[Found]:
    found = [torch.load(folder / f"rank{rank}.pt") for rank in range(RANKS)]
    assert [one["world"].item() for one in found] == [RANKS] * RANKS
    return found


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Found], list[dict[str, Any]]]:
    """What each rank ended with, and what it said."""
    folder = once_for_all(tmp_path_factory, "ended-well", lambda folder: run_two_ranks(SCRIPT, "end_well", folder))
    return found_in(folder), [json.loads((folder / f"said{rank}.json").read_text()) for rank in range(RANKS)]


def test_both_ranks_stop_at_a_bad_batch_of_one_and_name_it(ended):
    texts, steps = zip(*(said["bad batch"] for said in ended[1]), strict=True)
    assert steps == (3, 3)
    assert texts[0] == texts[1]
    assert texts[0].startswith("step 3: micro-batch 0 on rank 0 has the loss nan; the teacher gives numbers")
    assert "for the training examples 13 (key " in texts[0]


def test_both_ranks_leave_out_the_same_step(ended):
    first, second = ended[0]
    assert torch.equal(first["skipped"], second["skipped"])
    assert torch.isfinite(first["skipped"]).all()


def test_both_ranks_stop_at_one_step_when_one_is_to_go(ended):
    (code, step), other = (said["preempted"] for said in ended[1])
    assert [code, step] == other
    assert code == 143
    assert 0 < step < STEPS


def test_a_preempted_run_of_two_ranks_goes_on_bitwise(ended):
    for found in ended[0]:
        assert torch.equal(found["resumed"], found["whole"])


def test_a_hung_rank_ends_the_run_with_its_name_and_place(tmp_path):
    started = time.perf_counter()
    done = launch_two_ranks(SCRIPT, "hang", tmp_path, seconds=ENDED_IN)
    assert time.perf_counter() - started < ENDED_IN
    assert done.returncode != 0
    assert f"exitcode  : {HUNG} " in done.stderr
    assert "training hangs: rank 1 of 2 (process" in done.stderr
    assert "has been at step 3, fetching its batches, for" in done.stderr
    stack = json.loads((tmp_path / "hung" / "hang" / "rank-1.json").read_text())["stack"]
    assert any("faulty_ranks.py" in frame and "in wait" in frame for frame in stack)
    assert find_last_whole_checkpoint(tmp_path / "hung").name == "checkpoint-3"


def test_a_killed_rank_ends_the_run_which_goes_on_bitwise(tmp_path, ended):
    started = time.perf_counter()
    done = launch_two_ranks(SCRIPT, "kill", tmp_path, seconds=ENDED_IN)
    assert time.perf_counter() - started < ENDED_IN
    assert done.returncode != 0
    assert "Signal 9 (SIGKILL)" in done.stderr
    assert find_last_whole_checkpoint(tmp_path / "killed").name == "checkpoint-6"
    run_two_ranks(SCRIPT, "resume", tmp_path)
    for found in found_in(tmp_path):
        assert torch.equal(found["resumed"], ended[0][0]["whole"])
