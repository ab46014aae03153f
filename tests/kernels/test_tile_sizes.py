"""Rows of tiles and blocks keep to their budgets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.kernels.tile_sizes import MIB, tile_sizes

CPU = torch.device("cpu")


def sizes(rows: int, *, tile: int, block: int = 4, budget: int | None = None, device: torch.device = CPU):
    return tile_sizes(rows, tile_row_bytes=tile, block_row_bytes=block, device=device, budget_bytes=budget)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(
    rows=st.integers(0, 5000), tile=st.integers(1, 10**6), block=st.integers(1, 10**6), budget=st.integers(1, 10**8)
)
def test_no_tile_exceeds_its_budget_unless_one_row_does(rows, tile, block, budget):
    found = sizes(rows, tile=tile, block=block, budget=budget)
    assert 1 <= found.block <= found.tile <= max(rows, 1)
    assert found.tile == 1 or found.tile * tile <= budget


def test_tiles_are_equally_high():
    """257 rows where 256 fit must not become 256 and 1: a tile of one row costs the products of many."""
    assert sizes(257, tile=1, budget=256).tile == 144
    assert sizes(256, tile=1, budget=256).tile == 256
    assert sizes(100, tile=1, budget=3).tile == 3


def test_memory_does_not_grow_with_rows_times_vocabulary():
    for rows, vocabulary in ((512, 8_000), (2048, 32_000), (8192, 151_936)):
        assert sizes(rows, tile=2 * 4 * vocabulary).tile * 2 * 4 * vocabulary <= 64 * MIB


def test_blocks_fit_the_cache_of_a_cpu_and_are_higher_elsewhere():
    block = 4 * 32_000
    here = sizes(4096, tile=2 * block, block=block).block
    assert here * block <= torch.get_num_threads() * MIB
    assert sizes(4096, tile=2 * block, block=block, device=torch.device("cuda")).block > 100


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="must be positive, got 0 bytes"):
        sizes(3, tile=1, budget=0)
