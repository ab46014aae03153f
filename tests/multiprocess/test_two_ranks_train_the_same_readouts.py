"""Extraction over ranks: read-outs outside the student stay equal on all of them, and equal to one process's."""

from __future__ import annotations

import pytest
import torch
from extraction_two_ranks import HEADS, ends
from launching import Found, found_by_two_ranks
from updates import assert_same_update

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, ...]:
    """What one process found, and each of two ranks."""
    ranks = found_by_two_ranks("extraction_two_ranks.py", tmp_path_factory)
    return ends(tmp_path_factory.mktemp("single"), micro_batch=8, accumulation=1), *ranks


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
        assert_same_update(single[what], double[what])
    torch.testing.assert_close(double["losses"], single["losses"], rtol=1e-5, atol=0)
