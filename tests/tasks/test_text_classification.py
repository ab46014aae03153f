from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tables import TOKENIZER, write_sentences

from hf_distill.tasks import TASKS, Task

TOPICS = ["world", "sport", "world", "business"]


def build(folder: Path, **fields: Any) -> Task:
    spec = {"name": "text_classification", "data": {"path": str(folder)}, "tokenizer": TOKENIZER, **fields}
    return TASKS.build(spec, path="task")


def labels_of(task: Task, folder: Path) -> tuple[list[str], list[int]]:
    data = task.prepare(seed=0, cache_dir=folder / "cache")
    return data.description["labels"], data.train.__getitems__(range(4))[0]["labels"].tolist()  # type: ignore[attr-defined]


def test_classes_are_not_numbered_by_chance(tmp_path: Path) -> None:
    folder = write_sentences(tmp_path, ["text"], TOPICS)
    assert labels_of(build(folder), folder) == (["business", "sport", "world"], [2, 1, 2, 0])
    given = build(folder, labels=["world", "sport", "business"])
    assert labels_of(given, folder) == (["world", "sport", "business"], [0, 1, 0, 2])


def test_the_names_of_the_data_are_kept(tmp_path: Path) -> None:
    folder = write_sentences(tmp_path, ["question", "answer"], [1, 0, 2, 1])
    (folder / "labels.json").write_text(json.dumps(["bad", "fair", "good"]))
    task = build(folder, text_columns=["question", "answer"])
    assert labels_of(task, folder) == (["bad", "fair", "good"], [1, 0, 2, 1])
    model = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    data = task.prepare(seed=0, cache_dir=folder / "cache")
    built = task.build_model({"architecture": "bert", "config": model}, data)
    assert built.config.id2label == {0: "bad", 1: "fair", 2: "good"}


def test_a_class_that_is_only_held_out_is_not_added(tmp_path: Path) -> None:
    folder = write_sentences(tmp_path, ["text"], TOPICS, splits=("train",))
    write_sentences(folder, ["text"], ["science", "world"], splits=("validation",))
    with pytest.raises(ValueError, match=r"validation.jsonl has the label 'science', which is none of the 3 classes"):
        build(folder).prepare(seed=0, cache_dir=folder)


def test_numbers_without_names_are_no_classes(tmp_path: Path) -> None:
    folder = write_sentences(tmp_path, ["text"], [0, 1, 1])
    with pytest.raises(ValueError, match=r"column 'label' does not name its classes"):
        build(folder).prepare(seed=0, cache_dir=folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text_columns": []}, "expected one column, or two of a pair"),
        ({"labels": ["a", "a"]}, "two different classes at least"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        build(tmp_path, **fields)
