from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Value
from tables import TOKENIZER, sentence_rows, write_sentences, write_split
from tiers import mostly_slow
from tiny_recipes import SGD
from transformers import EvalPrediction

from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.tasks import TASKS, Task, TaskData
from hf_distill.tasks.glue_subsets import glue_subsets

BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SUBSETS = tuple(glue_subsets())


def splits_of(subset: str) -> tuple[str, ...]:
    layout = glue_subsets()[subset]
    return ("train", layout.validation, *layout.further)


def labels_of(subset: str, count: int = 12) -> list[float]:
    classes = len(glue_subsets()[subset].classes)
    return [row % classes for row in range(count)] if classes else [(row % 11) / 2 for row in range(count)]


def folder_of(root: Path, subset: str) -> Path:
    layout = glue_subsets()[subset]
    return write_sentences(root, layout.texts, labels_of(subset), splits=splits_of(subset))


def build(subset: str, folder: Path, **fields: Any) -> Task:
    spec = {"name": "glue", "subset": subset, "data": {"path": str(folder)}, "tokenizer": TOKENIZER, **fields}
    return TASKS.build(spec, path="task")


def prepared(subset: str, folder: Path, **fields: Any) -> TaskData:
    return build(subset, folder, **fields).prepare(seed=0, cache_dir=folder / "cache")


def recipe(subset: str, folder: Path, output_dir: Path, **changes: Any) -> Recipe:
    training = {**SGD, "max_steps": 4, "eval_steps": 4, "per_device_train_batch_size": 4}
    return Recipe.from_dict(
        {
            "name": f"tiny-{subset}",
            "output_dir": str(output_dir),
            "task": {"name": "glue", "subset": subset, "data": {"path": str(folder)}, "tokenizer": TOKENIZER},
            "teacher": {
                "train": {
                    "model": {"architecture": "bert", "config": BERT},
                    "training": {**training, "save_steps": 2, "save_only_model": True},
                }
            },
            "student": {"model": {"architecture": "bert", "config": BERT}},
            "curriculum": {"name": "one_shot", "label_mix": 0.5},
            "training": {**training, "save_strategy": "no"},
            "report": {"enabled": False},
            **changes,
        }
    )


# ---- end to end ----


@pytest.mark.parametrize("subset", mostly_slow(["stsb", "mnli", "mrpc"], quick=lambda subset: subset == "mrpc"))
def test_a_subset_can_be_distilled(subset: str, tmp_path: Path) -> None:
    record = run_recipe(recipe(subset, folder_of(tmp_path / "data", subset), tmp_path / "run"))
    metrics = record.runs[0].final_metrics
    assert set(glue_subsets()[subset].metrics) <= set(metrics)
    assert all(math.isfinite(value) for value in metrics.values())
    assert ("accuracy_mismatched" in metrics) == (subset == "mnli")
    assert set(metrics) == set(record.teacher["final_metrics"])
    config = json.loads((tmp_path / "run" / record.runs[0].folder / "config.json").read_text())
    if subset == "stsb":
        assert config["problem_type"] == "regression"
    else:
        assert tuple(config["id2label"].values()) == glue_subsets()[subset].classes


@pytest.mark.parametrize("subset", SUBSETS)
def test_a_subset_is_read_as_the_hub_has_it(subset: str, tmp_path: Path) -> None:
    folder = folder_of(tmp_path, subset)
    task, layout = build(subset, folder), glue_subsets()[subset]
    data = task.prepare(seed=0, cache_dir=folder / "cache")
    batch = data.collator(data.train.__getitems__(range(12)))
    assert batch["labels"].tolist() == labels_of(subset)
    assert batch["labels"].dtype == (torch.int64 if layout.classes else torch.float32)
    assert (task.head, task.metric) == ("classification" if layout.classes else "regression", layout.metrics[0])
    row = sentence_rows(layout.texts, labels_of(subset))[0]
    text = data.tokenizer.decode(batch["input_ids"][0], skip_special_tokens=True)  # type: ignore[union-attr]
    assert text.split() == " ".join(row[column] for column in layout.texts).split()


# ---- metrics ----


def test_the_mismatched_split_of_mnli_is_not_measured_on_the_matched_one(tmp_path: Path) -> None:
    layout = glue_subsets()["mnli"]
    folder = write_sentences(tmp_path, layout.texts, [0, 1, 2], splits=("train", "validation_matched"))
    write_split(folder, "validation_mismatched", sentence_rows(layout.texts, [2, 2, 2, 0], seed=7))
    data = prepared("mnli", folder)
    further = data.further["mismatched"]
    assert (len(data.validation), len(further.examples)) == (3, 4)  # type: ignore[arg-type]
    always_two = EvalPrediction(predictions=np.eye(3)[[2, 2, 2, 2]], label_ids=np.array([2, 2, 2, 0]))
    assert further.compute_metrics(always_two) == {"accuracy": 0.75}


def test_another_held_out_split_of_mnli_needs_no_mismatched_one(tmp_path: Path) -> None:
    layout = glue_subsets()["mnli"]
    folder = write_sentences(tmp_path, layout.texts, [0, 1, 2], splits=("train", "dev"))
    assert not prepared("mnli", folder, data={"path": str(folder), "validation_split": "dev"}).further


def test_further_splits_are_looked_at(tmp_path: Path) -> None:
    folder = write_sentences(
        tmp_path, ["sentence"], [0, 1, 1], splits=("train", "validation", "validation_out_of_domain", "test")
    )
    data = prepared("cola", folder, further_splits=["validation_out_of_domain", "test"])
    assert list(data.further) == ["out_of_domain", "test"]
    assert data.description["further_rows"] == {"out_of_domain": 3, "test": 3}
    assert (data.description["title"], data.description["config"]) == ("CoLA (GLUE)", "cola")


def test_a_constant_model_has_a_metric() -> None:
    for subset, layout in glue_subsets().items():
        labels = np.array(labels_of(subset))
        outputs = np.zeros((len(labels), max(len(layout.classes), 1)))
        task = TASKS.build({"name": "glue", "subset": subset}, path="task")
        metrics = task.metrics(None)(EvalPrediction(predictions=outputs, label_ids=labels))  # type: ignore[attr-defined]
        assert all(math.isfinite(value) for value in metrics.values())


# ---- the Hub ----


def test_the_hubs_columns_and_classes_are_read_as_local_ones(tmp_path: Path) -> None:
    """A parquet copy of the Hub's layout whose classes are numbered the other way round."""
    rows = sentence_rows(["sentence1", "sentence2"], [0, 1, 1, 0])
    names = ["entailment", "not_entailment"]
    folder = tmp_path / "local"
    for split in ("train", "validation"):
        write_split(folder, split, rows)
        features = Features(
            {
                **{column: Value("string") for column in ("sentence1", "sentence2")},
                "label": ClassLabel(names=names[::-1]),
                "idx": Value("int32"),
            }
        )
        turned = [{**row, "label": 1 - row["label"]} for row in rows]
        (tmp_path / "hub").mkdir(exist_ok=True)
        Dataset.from_list(turned, features=features).to_parquet(str(tmp_path / "hub" / f"{split}.parquet"))
    local = prepared("rte", folder)
    hub = prepared("rte", folder, data={"hub": str(tmp_path / "hub")})
    assert hub.fingerprint == local.fingerprint
    assert hub.train.batch(np.arange(4))["labels"].tolist() == [0, 1, 1, 0]  # type: ignore[attr-defined]


def test_the_subset_is_the_hubs_configuration() -> None:
    task = TASKS.build({"name": "glue", "subset": "qnli"}, path="task")
    assert task.table_spec() == {"validation_split": "validation", "hub": "nyu-mll/glue", "name": "qnli"}  # type: ignore[attr-defined]


# ---- bad input ----


@pytest.mark.parametrize(
    ("subset", "label", "message"),
    [
        ("cola", 2, r"row 2 of .*train.jsonl has the label 2, which is none of the 2 classes \(unacceptable"),
        ("cola", -1, r"has the label -1, .*Choose a split with labels"),
        ("cola", "good", r"has the label 'good'"),
        ("cola", None, r"has the label None"),
        ("stsb", 5.5, r"has the label 5\.5, which is no number between 0 and 5"),
        ("stsb", -1.0, r"unlabelled test splits hold -1. Choose a split with labels"),
        ("stsb", "4", r"has the label '4'"),
    ],
)
def test_a_label_out_of_range_is_refused(subset: str, label: Any, message: str, tmp_path: Path) -> None:
    folder = write_sentences(tmp_path, glue_subsets()[subset].texts, [0, 1, label])
    with pytest.raises(ValueError, match=message):
        prepared(subset, folder)


def test_names_of_classes_are_taken_for_their_numbers(tmp_path: Path) -> None:
    folder = write_sentences(tmp_path, ["sentence"], ["negative", "positive", "negative"])
    data = prepared("sst2", folder)
    assert data.train.batch(np.arange(3))["labels"].tolist() == [0, 1, 0]  # type: ignore[attr-defined]


def test_a_test_split_without_labels_is_refused(tmp_path: Path) -> None:
    folder = write_sentences(tmp_path, ["sentence"], [0, 1])
    write_split(folder, "test", sentence_rows(["sentence"], [-1, -1]))
    with pytest.raises(ValueError, match=r"test.jsonl has the label -1"):
        prepared("cola", folder, further_splits=["test"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "validation.jsonl").write_text(""), "validation.jsonl is empty"),
        (lambda folder: (folder / "validation.jsonl").unlink(), "no split 'validation'. Its splits: train"),
        (lambda folder: write_split(folder, "train", [{"text": "a", "label": 1}]), "has no column 'sentence'"),
        (lambda folder: write_split(folder, "train", [{"sentence": 3, "label": 1}]), "no text under 'sentence' but 3"),
    ],
)
def test_a_broken_table_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    folder = write_sentences(tmp_path, ["sentence"], [0, 1])
    change(folder)
    with pytest.raises(ValueError, match=message):
        prepared("cola", folder)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"subset": "stsB"}, r"GLUE has no 'stsB'. Did you mean `stsb`\? It has cola, sst2"),
        ({}, "task.subset: missing"),
        ({"subset": "cola", "max_length": 4}, "max_length: expected at least 8"),
        ({"subset": "cola", "train_examples": 0}, "train_examples: expected at least 1"),
        ({"subset": "cola", "data": {"folder": "x"}}, r"expected \{path: FOLDER\}|unknown key"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TASKS.build({"name": "glue", **fields}, path="task")


# ---- real data ----


@pytest.mark.parametrize(
    ("subset", "name", "rows"), [("cola", "cola", 527), ("mrpc", "mrpc", 500), ("stsb", "sts", 2250)]
)
def test_the_real_tables_are_read(subset: str, name: str, rows: int, shared_data: Path, tmp_path: Path) -> None:
    task = build(subset, shared_data / "glue" / name, train_examples=200, max_length=64)
    data = task.prepare(seed=0, cache_dir=tmp_path)
    assert (len(data.train), len(data.validation)) == (200, rows)  # type: ignore[arg-type]
    assert int(data.validation.lengths.max()) <= 64  # type: ignore[attr-defined]
