"""Batches of texts of about one length, in an order that a resumed run and every rank draw again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import LengthGroupedSampler


class EpochLengthGroups(LengthGroupedSampler):
    """transformers' sampler, whose order is a function of seed and epoch.

    By itself it draws from the global generator, which stands elsewhere in a resumed run, and on another rank once
    dropout has drawn different numbers there: the ranks would then share out different orders among each other.

    Args:
        groups: What transformers has made of the arguments.
        seed: Of the data's order.
        epoch: Returns how far training has come, in epochs.
    """

    def __init__(self, groups: LengthGroupedSampler, *, seed: int, epoch: Callable[[], float]) -> None:
        super().__init__(groups.batch_size, lengths=groups.lengths)
        self._seed = seed
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        # A checkpoint may lie a rounding error before the end of an epoch.
        epoch = math.floor(self._epoch() + 1e-6)
        self.generator = torch.Generator().manual_seed(self._seed * 1_000_003 + epoch)
        return super().__iter__()


def repeatable(sampler: Sampler | None, *, seed: int, epoch: Callable[[], float]) -> Sampler | None:
    """Return the sampler of a training; one that groups by length in an order that can be drawn again.

    Args:
        sampler: transformers' own.
        seed: Of the data's order.
        epoch: Returns how far training has come, in epochs.
    """
    if not isinstance(sampler, LengthGroupedSampler):
        return sampler
    return EpochLengthGroups(sampler, seed=seed, epoch=epoch)
