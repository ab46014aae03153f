"""Extraction over ranks: read-outs outside the student stay equal on all of them, and equal to one process's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from extraction_two_ranks import HEADS, ends

TESTS = Path(__file__).resolve().parents[1]
Ends = dict[str, torch.Tensor]

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ends, Ends, Ends]:
    """One process, and each of two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*command, str(TESTS / "extraction_two_ranks.py"), str(folder)],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    single = ends(folder / "single", micro_batch=8, accumulation=1)
    return single, *(torch.load(folder / f"rank{rank}.pt") for rank in range(2))


def test_the_launch_really_had_two_ranks(three):
    assert [found["world"].item() for found in three] == [1, 2, 2]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("layers", ["uniform", "cka"])
def test_both_ranks_end_with_the_same_student_and_read_outs(three, head, layers):
    _, first, second = three
    for what in ("student", "readouts", "layers"):
        assert torch.equal(first[f"{head}/{layers}/{what}"], second[f"{head}/{layers}/{what}"]), what


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("layers", ["uniform", "cka"])
def test_two_ranks_make_the_updates_and_log_the_losses_of_one(three, head, layers):
    single, double, _ = ({k.removeprefix(f"{head}/{layers}/"): v for k, v in found.items()} for found in three)
    assert torch.equal(single["layers"], double["layers"])
    for what in ("student", "readouts"):
        one, two = single[what], double[what]
        assert one.norm() > 1e-4
        assert (two.norm() / one.norm()).item() == pytest.approx(1.0, abs=1e-5)
        assert torch.nn.functional.cosine_similarity(one, two, dim=0).item() > 0.99999
    torch.testing.assert_close(double["losses"], single["losses"], rtol=1e-5, atol=0)
