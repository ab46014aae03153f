"""What to choose: it fits, it is fast, and it is the simplest of those."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scaled_work import BILLION, size, work

from hf_distill.planning.choice import AS_FAST, choose
from hf_distill.planning.machine import MACHINES, Machine


def with_memory(gigabytes: int) -> Machine:
    return replace(MACHINES["h100"], memory_bytes=gigabytes * BILLION)


@pytest.mark.parametrize("gpus", [1, 8])
def test_with_memory_to_spare_it_is_the_simplest(gpus):
    found = choose(work(), with_memory(1000), gpus, examples=64)
    assert found.layout.engine.name == ("single" if gpus == 1 else "ddp")
    assert (found.layout.teacher, found.checkpointing) == ("replicated", False)
    assert found.point.examples == 64


def test_with_less_memory_more_is_split():
    names = [choose(work(), with_memory(memory), 8, examples=64).layout.engine.name for memory in (80, 36, 30, 24)]
    assert names[0] == "ddp"
    assert len(set(names)) > 1
    tight = choose(work(), with_memory(14), 8, examples=64)
    assert tight.layout.teacher == "sharded"
    assert tight.point.fits
    assert tight.point.memory <= 0.9 * 14 * BILLION


def test_nothing_that_fits_is_said_to():
    huge = work(student=size(100 * BILLION, layers=10))
    assert choose(huge, with_memory(24), 8, examples=64) is None
    assert choose(huge, with_memory(24), 8, examples=64, cached=True) is None


def test_cached_targets_are_taken_only_where_they_are_allowed():
    tight = with_memory(13)
    assert choose(work(), tight, 1, examples=64) is None
    found = choose(work(), tight, 1, examples=64, cached=True)
    assert found.layout.teacher == "cached"
    assert "teacher.cached" in found.text()


def test_a_slow_way_is_not_taken_because_it_is_simple():
    slow_network = replace(with_memory(1000), inside=1e8, between=1e8)
    found = choose(work(), slow_network, 8, examples=64)
    quickest = min(
        choose(work(), replace(slow_network, memory_bytes=memory * BILLION), 8, examples=64).point.step
        for memory in (1000, 500, 100)
    )
    assert found.point.step <= AS_FAST * quickest


def test_a_choice_is_said_in_words_that_recipes_and_launchers_know():
    found = choose(work(), with_memory(1000), 8, examples=64)
    assert found.text() == "ddp_bf16.yaml, 8 × 1"
    assert replace(found, checkpointing=True).text() == "ddp_bf16.yaml, 8 × 1, activation_checkpointing"
