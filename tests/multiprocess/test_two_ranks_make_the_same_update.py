"""Invariant 1 over ranks: two processes with accumulation make the update of one process with one batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from builders import HEADS
from two_ranks import CURRICULA, updates

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(TESTS / "two_ranks.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return updates(folder / "single", micro_batch=8, accumulation=1), torch.load(folder / "updates.pt")


@pytest.mark.multiprocess
@pytest.mark.slow
def test_the_launch_really_had_two_ranks(both):
    assert both[1]["world"].item() == 2


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("curriculum", CURRICULA)
def test_two_ranks_make_the_update_and_log_the_loss_of_one(both, head, curriculum):
    single, double = (found[f"{head}/{curriculum}"] for found in both)
    assert single.norm() > 1e-4
    assert (double.norm() / single.norm()).item() == pytest.approx(1.0, abs=1e-5)
    assert torch.nn.functional.cosine_similarity(single, double, dim=0).item() > 0.99999
    losses = [found[f"{head}/{curriculum}/loss"].item() for found in both]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
