"""The size of cached teacher targets, by codec."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hf_distill.planning.model_size import ModelSize

TOP_K = 64


@dataclass(frozen=True, kw_only=True)
class CacheSize:
    """One way of keeping the teacher's targets.

    Attributes:
        codec: `logits`, `hidden` or `top_k`.
        bytes_per_row: Of one labelled row.
        size: Of all rows, in bytes; a head that is kept once is included.
        exact: Whether the divergence over the whole vocabulary is that of the live teacher, but for rounding.
    """

    codec: str
    bytes_per_row: float
    size: int
    exact: bool


def cache_sizes(teacher: ModelSize, rows: int, *, k: int = TOP_K) -> list[CacheSize]:
    """Return what each codec takes for `rows` rows.

    `logits` float32, `hidden` bfloat16 with the teacher's head beside it, `top_k` float16 values and packed ids with
    the mass of the rest.

    Args:
        teacher: Its size.
        rows: Distinct labelled rows that a run looks at.
        k: Of the largest probabilities that `top_k` keeps.
    """
    kept = min(k, teacher.outputs)
    ids = math.ceil(kept * math.ceil(math.log2(max(teacher.outputs, 2))) / 8)
    top_k = 2 * kept + ids + 2
    head = 2 * teacher.outputs * teacher.hidden
    return [
        CacheSize(codec="logits", bytes_per_row=4 * teacher.outputs, size=4 * teacher.outputs * rows, exact=True),
        CacheSize(codec="hidden", bytes_per_row=2 * teacher.hidden, size=2 * teacher.hidden * rows + head, exact=True),
        CacheSize(codec="top_k", bytes_per_row=top_k, size=top_k * rows, exact=False),
    ]
