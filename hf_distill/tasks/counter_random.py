"""Random numbers addressed by their position: no state, so that any order, process or resumed run draws the same."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the finaliser of SplitMix64 of each value: a bijection whose output bits look independent.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (OOPSLA 2014).
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


class CounterStream:
    """One of 2^128 sequences of random numbers, read at any position.

    Args:
        purpose: What the numbers are for; streams of different purposes are unrelated even with the same seed.
        seed: Any integer.
    """

    def __init__(self, purpose: str, seed: int) -> None:
        digest = hashlib.sha256(f"{purpose}/{seed}".encode()).digest()
        self._keys = np.frombuffer(digest, dtype="<u8", count=2)

    def uint64(self, counters: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """Return 64 uniform bits for each counter.

        Shapes: any -> the same.
        """
        # Two rounds with two keys: with one, two streams would be the same sequence read at different places.
        return mix64(mix64(counters * _GOLDEN + self._keys[0]) ^ self._keys[1])

    def uniform(self, counters: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Return numbers uniform in [0, 1), multiples of 2^-53.

        Shapes: any -> the same.
        """
        return (self.uint64(counters) >> np.uint64(11)).astype(np.float64) * np.float64(2.0**-53)
