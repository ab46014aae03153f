"""Two processes write one cache: each example goes through one teacher once, and both read it."""

from __future__ import annotations

import pytest
import torch
from cache_two_ranks import CASES
from launching import Found, found_by_two_ranks

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, ...]:
    """What each of two ranks found."""
    return found_by_two_ranks("cache_two_ranks.py", tmp_path_factory)


@pytest.mark.parametrize("case", CASES)
def test_each_example_goes_through_one_of_the_teachers_once(ranks: tuple[Found, ...], case: str) -> None:
    seen = [int(found[f"{case}/seen"]) for found in ranks]
    for found in ranks:
        assert found[f"{case}/forwarded"] == sum(seen) == found[f"{case}/examples"]
        assert found[f"{case}/visited"] == 10 * 4
        assert found[f"{case}/again"] == 0
    assert 30 <= sum(seen) <= 40
    assert min(seen) >= 12, "each process brings about half of them"
    assert all(found[f"{case}/shards"] > 3 for found in ranks)


@pytest.mark.parametrize("case", CASES)
def test_both_train_the_student_of_the_live_teacher(ranks: tuple[Found, ...], case: str) -> None:
    for found in ranks:
        torch.testing.assert_close(found[f"{case}/cached"], found[f"{case}/live"], rtol=1e-5, atol=1e-6)
    assert torch.equal(ranks[0][f"{case}/cached"], ranks[1][f"{case}/cached"])
