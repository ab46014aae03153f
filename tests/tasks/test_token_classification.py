from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tables import TAGS, TOKENIZER, tagged_rows, write_split, write_tagged

from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.tasks import TASKS, Task, TaskData

BERT = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def build(folder: Path, **fields: Any) -> Task:
    spec = {"name": "token_classification", "data": {"path": str(folder)}, "tokenizer": TOKENIZER}
    return TASKS.build({**spec, **fields}, path="task")


def labels_of(data: TaskData) -> list[list[int]]:
    labels = data.train.columns["labels"]  # type: ignore[attr-defined]
    return [[tag for tag in labels.values[a:b].tolist() if tag >= 0] for a, b in pairwise(labels.starts)]


def test_no_word_loses_its_tag(tmp_path: Path) -> None:
    folder = write_tagged(tmp_path)
    data = build(folder).prepare(seed=0, cache_dir=tmp_path)
    assert labels_of(data) == [row["ner_tags"] for row in tagged_rows(12)]
    assert data.description["labels"] == list(TAGS)
    assert "none cut" in data.description["preprocessing"]
    assert data.description["counted"]["train"] == {"sentences cut": 0, "words cut": 0}
    batch = data.train.__getitems__([0])[0]  # type: ignore[attr-defined]
    assert batch["labels"][0, 0] == -100, "the special token before the sentence has no tag"


def test_words_that_are_cut_off_are_counted(tmp_path: Path) -> None:
    folder = write_tagged(tmp_path)
    write_split(folder, "train", [{"tokens": ["value"] * 90, "ner_tags": [0] * 89 + [1]}, *tagged_rows(2)])
    counted = build(folder, max_length=72).prepare(seed=0, cache_dir=tmp_path).description["counted"]
    assert counted["train"]["sentences cut"] == 1
    assert counted["train"]["words cut"] > 0
    assert counted["validation"] == {"sentences cut": 0, "words cut": 0}


def test_a_tag_written_as_a_name_is_its_place_in_the_list_or_else_in_the_alphabet(tmp_path: Path) -> None:
    rows = [{**row, "ner_tags": [TAGS[tag] for tag in row["ner_tags"]]} for row in tagged_rows(4)]
    folder = write_tagged(tmp_path)
    write_split(folder, "train", rows)
    assert labels_of(build(folder).prepare(seed=0, cache_dir=tmp_path)) == [r["ner_tags"] for r in tagged_rows(4)]
    (folder / "labels.json").unlink()
    write_split(folder, "validation", rows)
    assert build(folder).prepare(seed=0, cache_dir=tmp_path).description["labels"] == sorted(
        {tag for row in rows for tag in row["ner_tags"]}
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a", "b"], "ner_tags": [0]}, "row 0 of .*train.jsonl has 2 words and 1 tags"),
        ({"tokens": ["a", 3], "ner_tags": [0, 1]}, "or a word that is no text"),
        ({"tokens": ["a"], "ner_tags": [4]}, r"has the tag 4, which is none of the 4 \(O, B-person"),
        ({"tokens": ["a"], "ner_tags": [-1]}, "has the tag -1"),
        ({"tokens": ["a"], "ner_tags": ["B-thing"]}, "has the tag 'B-thing'"),
        ({"tokens": ["a"], "tags": [0]}, "has no column 'ner_tags'"),
    ],
)
def test_a_broken_sentence_is_refused(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = write_tagged(tmp_path)
    write_split(folder, "train", [row])
    with pytest.raises(ValueError, match=message):
        build(folder).prepare(seed=0, cache_dir=tmp_path)


def test_numbers_without_names_are_no_tags(tmp_path: Path) -> None:
    folder = write_tagged(tmp_path)
    (folder / "labels.json").unlink()
    with pytest.raises(ValueError, match=r"does not name the tags under 'ner_tags'; give their names"):
        build(folder).prepare(seed=0, cache_dir=tmp_path)
    assert build(folder, labels=list(TAGS)).prepare(seed=0, cache_dir=tmp_path).description["labels"] == list(TAGS)
    with pytest.raises(ValueError, match="labels: expected two different tags"):
        build(folder, labels=["O"])


@pytest.mark.slow
def test_a_tagger_can_be_distilled(tmp_path: Path) -> None:
    folder = write_tagged(tmp_path / "data", splits=("train", "validation", "test"), count=40)
    training = {
        "use_cpu": True,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 10,
        "max_steps": 60,
        "eval_strategy": "steps",
        "eval_steps": 30,
        "logging_steps": 30,
    }
    recipe = Recipe.from_dict(
        {
            "name": "tiny-tags",
            "output_dir": str(tmp_path / "run"),
            "task": {
                "name": "token_classification",
                "data": {"path": str(folder)},
                "tokenizer": TOKENIZER,
                "further_splits": ["test"],
            },
            "teacher": {
                "train": {
                    "model": {"architecture": "bert", "config": BERT},
                    "training": {**training, "save_steps": 30, "save_only_model": True},
                }
            },
            "student": {"model": {"architecture": "bert", "config": BERT}},
            "compare": {
                "one_shot": {"name": "one_shot"},
                "intra": {"name": "labels", "intra": {"passes": 2, "alpha": 1.0}},
            },
            "training": {**training, "save_strategy": "no"},
            "report": {"enabled": False},
        }
    )
    record = run_recipe(recipe)
    assert record.teacher["final_metrics"]["f1"] > 0.9, "each tag follows from its word"
    for run in record.runs:
        assert {"precision", "recall", "f1", "tag_accuracy", "f1_test"} <= set(run.final_metrics)
        assert all(math.isfinite(value) for value in run.final_metrics.values())
        assert run.final_metrics["f1"] > 0.5
    config = json.loads((tmp_path / "run" / record.runs[0].folder / "config.json").read_text())
    assert tuple(config["id2label"].values()) == TAGS


@pytest.mark.slow
def test_the_real_tweets_are_read(shared_data: Path, tmp_path: Path) -> None:
    data = build(shared_data / "wnut_17", further_splits=["test"]).prepare(seed=0, cache_dir=tmp_path)
    assert (data.description["train_rows"], data.description["validation_rows"]) == (3394, 1009)
    assert data.description["further_rows"] == {"test": 1287}
    assert len(data.description["labels"]) == 13
    assert sum(map(len, labels_of(data))) + data.description["counted"]["train"]["words cut"] == 62730
