"""Rows of tiles and blocks keep to their budgets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.kernels.tile_sizes import MIB, TileSizes, tile_sizes

CPU = torch.device("cpu")


def sizes(
    rows: int,
    *,
    student: int,
    teacher: int = 0,
    block: int = 4,
    budget: int | None = None,
    device: torch.device = CPU,
) -> TileSizes:
    return tile_sizes(
        rows,
        student_row_bytes=student,
        teacher_row_bytes=teacher,
        block_row_bytes=block,
        device=device,
        budget_bytes=budget,
    )


BYTES = st.integers(1, 10**6)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(rows=st.integers(0, 5000), student=BYTES, teacher=BYTES, block=BYTES, budget=st.integers(1, 10**9))
def test_no_tile_exceeds_its_budget_unless_one_row_does(rows, student, teacher, block, budget):
    found = sizes(rows, student=student, teacher=teacher, block=block, budget=budget)
    assert 1 <= found.block <= found.teacher <= found.student <= max(rows, 1)
    assert found.student == 1 or found.student * student + found.teacher * teacher <= budget


def test_tiles_are_about_equally_high():
    """257 rows where 256 fit must not become 256 and 1: a tile of one row costs as much as one of many."""
    assert sizes(257, student=1, budget=256).student == 160
    assert sizes(256, student=1, budget=256).student == 256
    assert sizes(2048, student=1, budget=396).student == 384
    assert sizes(100, student=1, budget=3).student == 3


def test_memory_beyond_a_fast_product_goes_to_the_students_tile():
    assert sizes(4096, student=100, teacher=200, budget=100 * 1024 + 200 * 128)[:2] == (1024, 128)
    assert sizes(4096, student=100, teacher=200, budget=300 * 96)[:2] == (96, 96)


def test_memory_does_not_grow_with_rows_times_vocabulary():
    for rows, vocabulary in ((512, 8_000), (2048, 32_000), (8192, 151_936)):
        found = sizes(rows, student=4 * vocabulary, teacher=4 * vocabulary)
        assert (found.student + found.teacher) * 4 * vocabulary <= 64 * MIB


def test_blocks_fit_the_cache_of_a_cpu_and_are_higher_elsewhere():
    block = 4 * 32_000
    here = sizes(4096, student=block, teacher=block, block=block).block
    assert here * block <= torch.get_num_threads() * MIB
    elsewhere = sizes(4096, student=block, teacher=block, block=block, device=torch.device("cuda"))
    assert elsewhere.block > 100 and elsewhere.teacher == 512


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="must be positive, got 0 bytes"):
        sizes(3, student=1, budget=0)
