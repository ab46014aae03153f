"""Engines that split the student over ranks: the losses and weights of one process, the vocabulary in tiles."""

from __future__ import annotations

import pytest
import torch
from engines_two_ranks import CASES, found_under, name_of
from launching import Found, found_by_two_ranks

pytestmark = [pytest.mark.multiprocess, pytest.mark.slow]

IDS = [pytest.param(case, id=name_of(*case)) for case in CASES]


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Found:
    return found_under(tmp_path_factory.mktemp("alone"), None, micro_batch=4)


@pytest.mark.parametrize("case", IDS)
def test_fsdp2_makes_the_update_of_one_process(alone, tmp_path_factory, case):
    assert_same(alone, found_by_two_ranks("engines_fsdp2.py", tmp_path_factory), name_of(*case))


@pytest.mark.deepspeed
@pytest.mark.parametrize("case", IDS)
def test_zero3_makes_the_update_of_one_process(alone, tmp_path_factory, case):
    assert_same(alone, found_by_two_ranks("engines_zero3.py", tmp_path_factory), name_of(*case))


def assert_same(alone: Found, ranks: tuple[Found, ...], name: str) -> None:
    for found in ranks:
        torch.testing.assert_close(found[f"{name}/losses"], alone[f"{name}/losses"], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found[f"{name}/weights"], alone[f"{name}/weights"], rtol=1e-5, atol=1e-6)
        tiles = "classification" not in name and "whole logits" not in name
        assert (found[f"{name}/positions"].item() == 1) == tiles
