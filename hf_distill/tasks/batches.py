"""Map-style data sets that make a whole batch in one call, and the collator that reads what they hand out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset


class BatchDataset(Dataset[Any]):
    """A data set whose item i is a pure function of i.

    The DataLoader asks for all items of a batch at once (`__getitems__`) and gets a list of one ready batch, which
    `BatchCollator` unpacks: making and stacking the items one by one takes longer than a training step of a small
    model.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of examples."""

    @abstractmethod
    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the examples `rows`, stacked.

        Shapes: (B,) -> (B, ...) for each column, among them "labels".
        """

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        """Return one example; negative rows count from the end."""
        return {name: column[0] for name, column in self.batch(self._checked([row])).items()}

    def __getitems__(self, rows: Sequence[int]) -> list[dict[str, Tensor]]:
        """Return the examples `rows` as a list of one batch."""
        return [self.batch(self._checked(rows))]

    def _checked(self, rows: Sequence[int]) -> NDArray[np.int64]:
        wanted, length = np.asarray(rows, dtype=np.int64), len(self)
        if wanted.size and (wanted.min() < -length or wanted.max() >= length):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} asked of a data set of {length}")
        return np.where(wanted < 0, wanted + length, wanted)


class BatchCollator:
    """Makes one batch of what a `BatchDataset` hands out: ready batches, or single examples picked by hand.

    Args:
        label_dimensions: Dimensions of "labels" in a single example: 0 for a class, 1 for a sequence of tokens.
    """

    def __init__(self, *, label_dimensions: int) -> None:
        self.label_dimensions = label_dimensions

    def __call__(self, features: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the columns with all rows of `features`."""
        if len(features) == 1 and self._is_batch(features[0]):
            return features[0]
        join = torch.cat if self._is_batch(features[0]) else torch.stack
        return {name: join([feature[name] for feature in features]) for name in features[0]}

    def _is_batch(self, feature: dict[str, Tensor]) -> bool:
        return feature["labels"].ndim > self.label_dimensions
