"""How many rows a tile and a block have, from a memory budget."""

from __future__ import annotations

from typing import NamedTuple

import torch

MIB = 2**20
BUDGET_BYTES = {"cpu": 64 * MIB}
BUDGET_BYTES_ELSEWHERE = 512 * MIB
TEACHER_ROWS = {"cpu": 128}
TEACHER_ROWS_ELSEWHERE = 512
CACHE_BYTES_PER_THREAD = MIB // 2
BLOCK_BYTES_ELSEWHERE = 32 * MIB
MULTIPLES = (128, 64, 32, 16)
"""Heights at which matrix products are fast, best first."""


class TileSizes(NamedTuple):
    """Rows at a time: of the student's tile, of the teacher's, and of a block of both whose divergence is computed."""

    student: int
    teacher: int
    block: int


def tile_sizes(
    rows: int,
    *,
    student_row_bytes: int,
    teacher_row_bytes: int,
    block_row_bytes: int,
    device: torch.device,
    budget_bytes: int | None = None,
) -> TileSizes:
    """Return how many rows fit the budget; a row is never split, so one row is the least.

    A tile has to be high for the matrix products to be fast: each reads a head's weight once a tile, and the sum of
    the head's gradient too. The student's takes part in three products, the teacher's in one, so that beyond a height
    at which a product is fast the memory goes to the student's. A block is low: on a CPU its handful of buffers should
    stay in the cache, elsewhere it only bounds the memory for them.

    Args:
        rows: Of the call.
        student_row_bytes: Of a row of the student's logits.
        teacher_row_bytes: Of a row of the teacher's; 0 without a teacher.
        block_row_bytes: Of a row of the widest logits in the type in which divergences are computed.
        device: Where.
        budget_bytes: For both tiles; None: 64 MiB on a CPU, 512 MiB elsewhere.

    Raises:
        ValueError: The budget is not positive.
    """
    if budget_bytes is None:
        budget_bytes = BUDGET_BYTES.get(device.type, BUDGET_BYTES_ELSEWHERE)
    if budget_bytes <= 0:
        raise ValueError(f"the budget for tiles must be positive, got {budget_bytes} bytes")
    enough = TEACHER_ROWS.get(device.type, TEACHER_ROWS_ELSEWHERE)
    student = (budget_bytes - enough * teacher_row_bytes) // max(student_row_bytes, 1)
    if student <= enough:
        student = enough = max(1, budget_bytes // max(student_row_bytes + teacher_row_bytes, 1))
    student = _evenly(rows, student)
    on_cpu = device.type == "cpu"
    block_bytes = CACHE_BYTES_PER_THREAD * torch.get_num_threads() if on_cpu else BLOCK_BYTES_ELSEWHERE
    teacher = min(student, enough)
    return TileSizes(student, teacher, max(1, min(teacher, block_bytes // max(block_row_bytes, 1))))


def _evenly(rows: int, most: int) -> int:
    """Return the height of about equal tiles of at most `most` rows, so that the last one is not a slow rest."""
    if rows <= most:
        return max(rows, 1)
    even = -(-rows // -(-rows // most))
    for multiple in MULTIPLES:
        rounded = -(-even // multiple) * multiple
        if rounded <= min(most, even * 5 // 4):
            return rounded
    return even
