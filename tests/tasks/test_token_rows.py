from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from hf_distill.tasks.token_rows import Ragged, RaggedCollator, RaggedExamples

ROWS = [[2, 5, 3], [2, 3], [2, 7, 8, 9, 3], [2, 6, 3]]
FILLS = {"input_ids": 0, "labels": -100}


def examples(rows: list[list[int]] = ROWS) -> RaggedExamples:
    labels = [[10 * value for value in row] for row in rows]
    columns = {"input_ids": Ragged.of(rows), "labels": Ragged.of(labels)}
    return RaggedExamples(columns, fills=FILLS, per_example={"score": np.arange(len(rows), dtype=np.float32)})


@settings(derandomize=True, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), max_size=5), min_size=1, max_size=6), st.data())
def test_rows_do_not_run_into_one_another(rows: list[list[int]], data: st.DataObject) -> None:
    ragged = Ragged.of(rows)
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=5))
    padded = ragged.padded(np.array(chosen), -1)
    width = max(len(rows[row]) for row in chosen)
    assert padded.tolist() == [rows[row] + [-1] * (width - len(rows[row])) for row in chosen]
    assert len(ragged) == len(rows)
    assert ragged.lengths.tolist() == [len(row) for row in rows]


def test_a_batch_is_not_padded_beyond_its_longest_example() -> None:
    batch = examples().__getitems__([1, 0])[0]
    assert batch["input_ids"].tolist() == [[2, 3, 0], [2, 5, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0], [1, 1, 1]]
    assert batch["labels"].tolist() == [[20, 30, -100], [20, 50, 30]]
    assert batch["score"].tolist() == [1.0, 0.0]
    assert {name: values.dtype for name, values in batch.items() if name != "score"} == dict.fromkeys(
        ("input_ids", "labels", "attention_mask"), torch.int64
    )


def test_an_example_does_not_depend_on_its_batch() -> None:
    data = examples()
    alone, among = data[1], data.batch(np.array([2, 1]))
    length = len(alone["input_ids"])
    for name in alone:
        assert torch.equal(alone[name], among[name][1][:length] if among[name].ndim > 1 else among[name][1])


def test_examples_picked_by_hand_make_the_same_batch() -> None:
    data, collator = examples(), RaggedCollator(fills=FILLS)
    ready = collator(data.__getitems__([0, 2, 1]))
    picked = collator([data[0], data[2], data[1]])
    joined = collator([*data.__getitems__([0]), *data.__getitems__([2, 1])])
    for name in ready:
        assert torch.equal(ready[name], picked[name])
        assert torch.equal(ready[name], joined[name])


def test_a_loader_does_not_change_the_rows() -> None:
    data = examples()
    batches = list(DataLoader(data, batch_size=3, collate_fn=RaggedCollator(fills=FILLS)))  # type: ignore[arg-type]
    assert [tuple(batch["input_ids"].shape) for batch in batches] == [(3, 5), (1, 3)]


def test_other_examples_have_another_digest() -> None:
    assert examples().digest() == examples([list(row) for row in ROWS]).digest()
    assert examples().digest() != examples([[2, 5], [3, 2, 3], *ROWS[2:]]).digest(), "the same tokens, cut elsewhere"
    other = examples()
    other.per_example["score"] = other.per_example["score"] + np.float32(1)
    assert other.digest() != examples().digest()
