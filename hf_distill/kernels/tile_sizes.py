"""How many rows a tile and a block have, from a memory budget."""

from __future__ import annotations

from typing import NamedTuple

import torch

MIB = 2**20
BUDGET_BYTES = {"cpu": 64 * MIB}
BUDGET_BYTES_ELSEWHERE = 512 * MIB
CACHE_BYTES_PER_THREAD = MIB // 2
BLOCK_BYTES_ELSEWHERE = 32 * MIB
MULTIPLE = 16


class TileSizes(NamedTuple):
    """Rows multiplied at once, and rows of them whose divergence is computed at once."""

    tile: int
    block: int


def tile_sizes(
    rows: int, *, tile_row_bytes: int, block_row_bytes: int, device: torch.device, budget_bytes: int | None = None
) -> TileSizes:
    """Return how many rows fit the budget; a row is never split, so one row is the least.

    A tile has to be high for the matrix products to be fast (the head's weight is read once a tile), a block low: on a
    CPU its handful of buffers should stay in the cache, elsewhere it only bounds the memory for them. Tiles are made
    equally high, so that the last one is not a slow rest.

    Args:
        rows: Of the call.
        tile_row_bytes: Of a row of logits, the student's and the teacher's together.
        block_row_bytes: Of a row of the widest logits in the type in which divergences are computed.
        device: Where.
        budget_bytes: For the tiles; None: 64 MiB on a CPU, 512 MiB elsewhere.

    Raises:
        ValueError: The budget is not positive.
    """
    if budget_bytes is None:
        budget_bytes = BUDGET_BYTES.get(device.type, BUDGET_BYTES_ELSEWHERE)
    if budget_bytes <= 0:
        raise ValueError(f"the budget for tiles must be positive, got {budget_bytes} bytes")
    most = max(1, budget_bytes // max(tile_row_bytes, 1))
    if most < rows:
        tiles = -(-rows // most)
        even = -(-rows // tiles)
        rounded = -(-even // MULTIPLE) * MULTIPLE
        most = rounded if rounded <= most else even
    on_cpu = device.type == "cpu"
    block_bytes = CACHE_BYTES_PER_THREAD * torch.get_num_threads() if on_cpu else BLOCK_BYTES_ELSEWHERE
    tile = max(1, min(most, rows))
    return TileSizes(tile, max(1, min(tile, block_bytes // max(block_row_bytes, 1))))
