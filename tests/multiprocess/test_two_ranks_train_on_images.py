"""Image classifiers over ranks: feature maps, an early exit and attentions give the update of one process."""

from __future__ import annotations

import pytest
import torch
from images_two_ranks import CASES, ends
from launching import Found, found_by_two_ranks
from updates import assert_same_update

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, ...]:
    """What one process found, and each of two ranks."""
    ranks = found_by_two_ranks("images_two_ranks.py", tmp_path_factory)
    return ends(tmp_path_factory.mktemp("single"), micro_batch=8, accumulation=1), *ranks


@pytest.mark.parametrize("name", CASES)
def test_ranks_end_with_the_same_student(three: tuple[Found, ...], name: str) -> None:
    _, first, second = three
    assert first[name].norm() > 1e-4
    assert torch.equal(first[name], second[name])


@pytest.mark.parametrize("name", [name for name in CASES if name != "batch norm"])
def test_two_ranks_make_the_update_of_one(three: tuple[Found, ...], name: str) -> None:
    single, double, _ = three
    assert_same_update(single[name], double[name])
