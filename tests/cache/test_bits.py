from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.cache.bits import bits_of, pack, packed_bytes, unpack


@st.composite
def numbers(draw: st.DrawFn) -> tuple[torch.Tensor, int]:
    limit = draw(st.integers(1, 2**25))
    rows, count = draw(st.integers(0, 4)), draw(st.integers(1, 9))
    drawn = draw(st.lists(st.integers(0, limit - 1), min_size=rows * count, max_size=rows * count))
    return torch.tensor(drawn, dtype=torch.int64).reshape(rows, count), limit


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=300)
@given(numbers())
def test_numbers_come_back_whatever_their_number_and_limit(case):
    given_RK, limit = case
    octets = pack(given_RK, limit=limit)
    assert octets.dtype == torch.uint8
    assert octets.shape == (len(given_RK), packed_bytes(given_RK.shape[1], limit))
    assert unpack(octets, count=given_RK.shape[1], limit=limit).equal(given_RK)


@pytest.mark.parametrize(
    ("limit", "bits"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3), (30_522, 15), (50_257, 16), (65_536, 16), (65_537, 17)]
)
def test_a_number_takes_the_logarithm_of_the_limit_rounded_up(limit, bits):
    assert bits_of(limit) == bits == max(math.ceil(math.log2(limit)), 1)


def test_the_packed_form_of_released_caches_does_not_change():
    assert pack(torch.tensor([[1, 2, 3]]), limit=8).tolist() == [[0b11010001, 0]]
    assert pack(torch.tensor([[5, 30_000]]), limit=30_522).tolist() == [[5, 0, 0b10011000, 0b00111010]]


def test_the_largest_ids_of_real_vocabularies_come_back():
    for limit in (30_522, 50_257, 128_256, 151_936, 262_144):
        top = torch.arange(limit - 64, limit)[None]
        assert unpack(pack(top, limit=limit), count=64, limit=limit).equal(top)


@pytest.mark.parametrize("limit", [0, 2**25 + 1])
def test_limits_without_a_packed_form_are_refused(limit):
    with pytest.raises(ValueError, match="cannot be packed"):
        bits_of(limit)


def test_rows_of_another_length_are_refused():
    with pytest.raises(ValueError, match="take 2 bytes a row, got 3"):
        unpack(torch.zeros(1, 3, dtype=torch.uint8), count=3, limit=32)
