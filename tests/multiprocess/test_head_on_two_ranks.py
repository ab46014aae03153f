"""A head in tiles under engines that wrap or shard the model: the gradients of one process that sees everything."""

from __future__ import annotations

import pytest
from head_cases import distance
from launching import Found, found_by_two_ranks


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return found_by_two_ranks("head_two_ranks.py", tmp_path_factory)


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.parametrize("wrapper", ["ddp tied", "ddp apart", "fsdp2 tied", "fsdp2 apart", "fsdp2 own apart"])
def test_no_engine_loses_a_part_of_the_gradient(found, wrapper):
    """`fsdp2 own`: the head is a unit of its own, whole only while it is called."""
    assert_same_gradient(found, wrapper)


@pytest.mark.multiprocess
@pytest.mark.slow
@pytest.mark.deepspeed
@pytest.mark.parametrize("wrapper", ["zero3 tied", "zero3 apart"])
def test_zero3_gathers_the_head_for_the_backward_too(tmp_path_factory, wrapper):
    assert_same_gradient(found_by_two_ranks("head_zero3.py", tmp_path_factory), wrapper)


def assert_same_gradient(found: tuple[Found, ...], wrapper: str) -> None:
    for one in found:
        assert distance(one[wrapper], one[f"alone {wrapper.split()[-1]}"]) < 1e-5
