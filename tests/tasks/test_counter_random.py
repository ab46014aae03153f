from __future__ import annotations

import numpy as np
import pytest

from hf_distill.tasks.counter_random import CounterStream, mix64

COUNT = 2**16
COUNTERS = np.arange(COUNT, dtype=np.uint64)


def test_the_mixing_function_is_splitmix64() -> None:
    # The first outputs of the published generator with seed 0 (its state grows by the golden ratio).
    states = (np.arange(1, 4, dtype=np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
    assert [hex(value) for value in mix64(states)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4", "0x6c45d188009454f"]


def test_numbers_do_not_depend_on_the_order_in_which_they_are_read() -> None:
    stream, order = CounterStream("test", 0), np.random.default_rng(0).permutation(COUNT)
    np.testing.assert_array_equal(stream.uint64(COUNTERS[order]), stream.uint64(COUNTERS)[order])


def test_numbers_do_not_change_with_the_release() -> None:
    # A change of these numbers changes the data of every run: old runs could not be resumed or compared.
    assert [hex(value) for value in CounterStream("parity/train", 0).uint64(COUNTERS[:2])] == [
        "0x614b322ba3020faa",
        "0xf636de448947ffaf",
    ]


@pytest.mark.parametrize("other", [CounterStream("test", 1), CounterStream("other", 0)], ids=["seed", "purpose"])
def test_two_streams_share_no_numbers(other: CounterStream) -> None:
    ours, theirs = CounterStream("test", 0).uint64(COUNTERS), other.uint64(COUNTERS)
    assert not np.isin(ours, theirs).any()


def test_no_bit_is_biased_or_tied_to_its_neighbour() -> None:
    bits = np.unpackbits(CounterStream("test", 0).uint64(COUNTERS).view(np.uint8)).reshape(COUNT, 64) * 2.0 - 1
    deviation = COUNT**-0.5
    assert np.abs(bits.mean(0)).max() < 4.5 * deviation
    assert np.abs((bits[1:] * bits[:-1]).mean(0)).max() < 4.5 * deviation
    assert np.abs((bits[:, 1:] * bits[:, :-1]).mean(0)).max() < 4.5 * deviation


def test_uniform_numbers_stay_in_the_unit_interval_and_do_not_clump() -> None:
    values = CounterStream("test", 0).uniform(COUNTERS)
    assert values.min() >= 0.0
    assert values.max() < 1.0
    counts, _ = np.histogram(values, bins=16, range=(0, 1))
    assert ((counts - COUNT / 16) ** 2 / (COUNT / 16)).sum() < 44  # chi-squared, 15 degrees of freedom, p = 1e-4
