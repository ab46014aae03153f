"""Examples of different lengths: kept end to end, padded to the longest of their batch when they are asked for.

Shape legend: N rows, S tokens of all rows, B rows of a batch, T positions of its longest row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hf_distill.tasks.batches import BatchDataset


@dataclass(frozen=True)
class Ragged:
    """Rows of numbers of different lengths.

    Shapes: `values` (S,), `starts` (N + 1,), where row i is `values[starts[i]:starts[i + 1]]`.
    """

    values: NDArray[np.int32]
    starts: NDArray[np.int64]

    @staticmethod
    def of(rows: Sequence[Sequence[int]]) -> Ragged:
        """Put rows end to end."""
        lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
        starts = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        return Ragged(np.fromiter((v for row in rows for v in row), dtype=np.int32, count=int(starts[-1])), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Of each row. Shapes: (N,)."""
        return np.diff(self.starts)

    def padded(self, rows: NDArray[np.int64], fill: int) -> NDArray[np.int64]:
        """Return some rows, filled up on the right to the longest of them. Shapes: (B,) -> (B, T)."""
        lengths_B = self.lengths[rows]
        positions_T = np.arange(lengths_B.max(initial=0))
        places_BT = self.starts[rows][:, None] + positions_T
        inside_BT = positions_T < lengths_B[:, None]
        values_BT = self.values[np.where(inside_BT, places_BT, 0)] if self.values.size else places_BT
        return np.where(inside_BT, values_BT, fill).astype(np.int64)


class RaggedExamples(BatchDataset):
    """Examples with columns of one number a position, padded on the right, and columns of one number an example.

    Args:
        columns: By name, one number a position. "input_ids" is among them; a decoder's have lengths of their own.
        fills: What fills up each of these columns.
        per_example: By name, one number an example; "labels" of a classifier, for instance.
    """

    def __init__(
        self,
        columns: Mapping[str, Ragged],
        *,
        fills: Mapping[str, int],
        per_example: Mapping[str, NDArray[np.generic]] | None = None,
    ) -> None:
        self.columns, self.fills = dict(columns), dict(fills)
        self.per_example = dict(per_example or {})

    def __len__(self) -> int:
        return len(self.columns["input_ids"])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Positions of each example. Shapes: (N,)."""
        return self.columns["input_ids"].lengths

    def batch(self, rows: NDArray[np.int64]) -> dict[str, Tensor]:
        """Return the examples `rows` with an attention mask, each column no wider than the longest of them."""
        padded = {name: torch.from_numpy(c.padded(rows, self.fills[name])) for name, c in self.columns.items()}
        attended_BT = np.arange(padded["input_ids"].shape[1]) < self.lengths[rows, None]
        single = {name: torch.from_numpy(np.ascontiguousarray(v[rows])) for name, v in self.per_example.items()}
        return {**padded, "attention_mask": torch.from_numpy(attended_BT.astype(np.int64)), **single}

    def digest(self) -> str:
        """Return a hash of all examples."""
        digest = hashlib.sha256()
        for name, column in sorted(self.columns.items()):
            digest.update(name.encode())
            digest.update(column.values.astype("<i4").tobytes())
            digest.update(column.starts.astype("<i8").tobytes())
        for name, values in sorted(self.per_example.items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()


class RaggedCollator:
    """Makes one batch of what `RaggedExamples` hands out: a ready batch, or examples and batches of other widths.

    Args:
        fills: What fills up each column of one number a position; the attention mask is filled up with 0.
    """

    def __init__(self, *, fills: Mapping[str, int]) -> None:
        self.fills = {**fills, "attention_mask": 0}

    def __call__(self, features: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return the columns with all rows of `features`, each padded on the right to the longest of them."""
        if len(features) == 1 and features[0]["input_ids"].ndim > 1:
            return features[0]
        filled = [name for name in features[0] if name in self.fills]
        widths = {name: max(feature[name].shape[-1] for feature in features) for name in filled}
        batches = [feature["input_ids"].ndim > 1 for feature in features]
        return {
            name: torch.cat(
                [
                    self._filled(name, feature[name] if is_batch else feature[name][None], widths.get(name))
                    for feature, is_batch in zip(features, batches, strict=True)
                ]
            )
            for name in features[0]
        }

    def _filled(self, name: str, values: Tensor, width: int | None) -> Tensor:
        if width is None:
            return values
        return F.pad(values, (0, width - values.shape[-1]), value=self.fills[name])
