"""What every task on tables does alike: which rows, which tokenizer, what the record says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tables import TOKENIZER, write_sentences

from hf_distill.tasks import TASKS
from hf_distill.tasks.table_task import TableTask, evenly

LABELS = [0, 1, 1, 0, 1, 0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sentences(tmp_path, ["sentence"], LABELS, splits=("train", "validation", "validation_other"))


def build(folder: Path, **fields: Any) -> TableTask:
    spec = {"name": "glue", "subset": "cola", "data": {"path": str(folder)}, "tokenizer": TOKENIZER}
    task = TASKS.build({**spec, **fields}, path="task")
    assert isinstance(task, TableTask)
    return task


def test_rows_are_not_taken_from_the_beginning_only() -> None:
    assert evenly(10, 3).tolist() == [0, 3, 6]
    assert evenly(4, 4).tolist() == [0, 1, 2, 3]


def test_a_further_split_carries_its_name_and_is_not_looked_at_in_training(folder: Path) -> None:
    data = build(folder, further_splits=["validation_other"]).prepare(seed=0, cache_dir=folder)
    assert list(data.further) == ["other"]
    assert data.description["further_rows"] == {"other": 6}
    assert len(data.validation) == len(data.further["other"].examples) == 6  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["train_examples", "validation_examples"])
def test_no_row_at_all_is_refused(folder: Path, field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: expected at least 1, got 0"):
        build(folder, **{field: 0})


def test_limits_and_cuts_are_in_the_record(folder: Path) -> None:
    long, short = (build(folder, max_length=length).prepare(seed=0, cache_dir=folder) for length in (64, 8))
    assert (long.description["max_length"], short.description["max_length"]) == (64, 8)
    assert long.description["preprocessing"].endswith("at most 64 tokens (none cut)")
    counted = short.description["counted"]
    assert counted["train"]["cut"] > 0
    assert f"{counted['train']['cut']} cut in train" in short.description["preprocessing"]


def test_a_split_is_encoded_once_for_all_seeds(folder: Path) -> None:
    task = build(folder)
    assert task.prepare(seed=0, cache_dir=folder).train is task.prepare(seed=1, cache_dir=folder).train
