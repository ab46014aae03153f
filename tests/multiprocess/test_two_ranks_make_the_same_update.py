"""Invariant 1 over ranks: two processes with accumulation make the update of one process, whatever is compared."""

from __future__ import annotations

import pytest
import torch
from launching import Found, found_by_two_ranks
from objective_runs import CASES, reference_step
from updates import assert_same_update

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, ...]:
    """What two ranks found, all objectives in one launch."""
    return found_by_two_ranks("objective_runs.py", tmp_path_factory)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in CASES])
def test_two_ranks_make_the_update_and_log_the_loss_of_one(ranks, tmp_path, case):
    single = reference_step(case, tmp_path)
    first, second = ({key: found[f"{case.id}/{key}"] for key in single} for found in ranks)
    assert torch.equal(first["update"], second["update"])
    assert_same_update(single["update"], first["update"])
    assert first["loss"].item() == pytest.approx(single["loss"].item(), rel=1e-5)
