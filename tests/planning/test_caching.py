"""Bytes of cached targets, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from hf_distill.planning.caching import cache_sizes
from hf_distill.planning.model_size import ModelSize


def teacher(outputs: int, hidden: int) -> ModelSize:
    return ModelSize(
        parameters=0, multiplied=0, weight_bytes=0, hidden=hidden, outputs=outputs, layers=1, width=hidden
    )


def test_the_bytes_of_a_row():
    by_codec = {cache.codec: cache for cache in cache_sizes(teacher(151_936, 3584), 1000, k=128)}
    assert by_codec["logits"].bytes_per_row == 4 * 151_936
    assert by_codec["hidden"].bytes_per_row == 7168
    # 128 values of 2 bytes, 128 ids of 18 bits, 2 bytes for the rest.
    assert by_codec["top_k"].bytes_per_row == 256 + 288 + 2
    assert by_codec["hidden"].size == 7168 * 1000 + 2 * 151_936 * 3584
    assert [cache.exact for cache in by_codec.values()] == [True, True, False]


@pytest.mark.parametrize(("outputs", "expected"), [(2, 2 * 2 + 1 + 2), (3, 2 * 3 + 1 + 2), (1000, 2 * 64 + 80 + 2)])
def test_no_more_is_kept_than_there_is(outputs, expected):
    assert cache_sizes(teacher(outputs, 8), 1)[-1].bytes_per_row == expected
