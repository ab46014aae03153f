"""Teachers over ranks: those that follow the student stay equal, and a ladder sends examples to the same experts."""

from __future__ import annotations

import pytest
import torch
from launching import Found, found_by_two_ranks
from source_cases import PEFT_WARNS
from sources_on_ranks import ON_RANKS, ends
from updates import assert_same_update

NAMES = [case.name for case in ON_RANKS]
pytestmark = [pytest.mark.multiprocess, pytest.mark.slow, PEFT_WARNS]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> tuple[Found, ...]:
    """One process, and each of two ranks."""
    single = ends(tmp_path_factory.mktemp("single"), micro_batch=8)
    return single, *found_by_two_ranks("sources_on_ranks.py", tmp_path_factory)


@pytest.mark.parametrize("name", NAMES)
def test_both_ranks_end_with_the_same_student_and_teacher(three, name):
    _, first, second = three
    for what in ("student", "teacher", "shares"):
        assert torch.equal(first[f"{name}/{what}"], second[f"{name}/{what}"]), what


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_end_where_one_process_does(three, name):
    single, double, _ = three
    assert_same_update(single[f"{name}/student"], double[f"{name}/student"])
    torch.testing.assert_close(double[f"{name}/teacher"], single[f"{name}/teacher"], rtol=1e-4, atol=1e-5)


def test_the_experts_shares_are_those_of_all_ranks(three):
    single, double, _ = three
    assert single["ladder/shares"].tolist() == double["ladder/shares"].tolist() == [0.25, 0.375, 0.375]
