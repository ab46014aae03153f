from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Subset

from hf_distill.tasks.batches import BatchCollator, BatchDataset


class Squares(BatchDataset):
    def __len__(self) -> int:
        return 10

    def batch(self, rows: NDArray[np.int64]) -> dict[str, torch.Tensor]:
        column = torch.from_numpy(rows)
        return {"inputs": torch.stack([column, column**2], dim=1), "labels": column % 2}


COLLATOR = BatchCollator(label_dimensions=0)


def test_a_batch_made_at_once_is_that_of_examples_made_one_by_one() -> None:
    data, rows = Squares(), [7, 0, 3]
    at_once, one_by_one = COLLATOR(data.__getitems__(rows)), COLLATOR([data[row] for row in rows])
    torch.testing.assert_close(at_once, one_by_one, rtol=0, atol=0)
    assert at_once["inputs"].tolist() == [[7, 49], [0, 0], [3, 9]]


@pytest.mark.parametrize("rows", [[4], [4, 5]])
def test_a_batch_of_one_is_not_taken_for_an_example(rows: list[int]) -> None:
    data = Squares()
    assert COLLATOR(data.__getitems__(rows))["inputs"].shape == (len(rows), 2)
    assert COLLATOR([data[row] for row in rows])["inputs"].shape == (len(rows), 2)


def test_batches_of_several_fetches_are_joined_instead_of_stacked() -> None:
    data = Squares()
    assert COLLATOR([*data.__getitems__([1, 2]), *data.__getitems__([3])])["labels"].tolist() == [1, 0, 1]


@pytest.mark.parametrize("workers", [0, 1])
def test_the_data_loader_does_not_change_the_examples(workers: int) -> None:
    loader = DataLoader(Squares(), batch_size=4, collate_fn=COLLATOR, num_workers=workers)
    assert torch.cat([batch["inputs"][:, 1] for batch in loader]).tolist() == [i * i for i in range(10)]


def test_a_subset_reads_its_own_rows() -> None:
    loader = DataLoader(Subset(Squares(), [9, 2]), batch_size=2, collate_fn=COLLATOR)
    assert next(iter(loader))["inputs"][:, 0].tolist() == [9, 2]


@pytest.mark.parametrize("row", [10, -11])
def test_a_row_beyond_the_end_is_not_invented(row: int) -> None:
    with pytest.raises(IndexError, match="data set of 10"):
        Squares()[row]


def test_negative_rows_count_from_the_end() -> None:
    assert Squares()[-1]["inputs"].tolist() == [9, 81]
