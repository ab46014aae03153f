from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tables import TOKENIZER, write_split
from transformers import EvalPrediction

from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.tasks import TASKS, Task

BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SMALL = {"tokenizer": TOKENIZER, "max_length": 64, "doc_stride": 16, "max_question_length": 16}
ROW = {
    "id": "finnish-1",
    "title": "t",
    "context": "a parser reads the file",
    "question": "what reads",
    "answers": {"text": ["the file", "file"], "answer_start": [15, 19]},
}


def build(**fields: Any) -> Task:
    return TASKS.build({"name": "question_answering", **SMALL, **fields}, path="task")


def on_rows(folder: Path, *rows: dict[str, Any], **fields: Any) -> Task:
    write_split(folder, "train", rows)
    write_split(folder, "validation", [ROW])
    return build(data={"path": str(folder)}, **fields)


def encoded(task: Task, folder: Path, split: str = "validation") -> Any:
    data = task.prepare(seed=0, cache_dir=folder / "cache")
    return vars(data)[split]


def test_perfect_logits_give_the_right_answers(tmp_path: Path) -> None:
    """Contexts of several windows: the answer's own positions, marked, must come back as its words."""
    task = build(
        data={"generated": {"rows": 8, "validation_rows": 30, "facts": 12}}, max_length=44, max_question_length=12
    )
    data = task.prepare(seed=0, cache_dir=tmp_path)
    windows: Any = data.validation
    assert len(windows) > 2 * 30, "the contexts were to be cut"
    starts, ends = np.zeros((len(windows), 44)), np.zeros((len(windows), 44))
    marked = windows.positions_W2
    answered = marked.any(-1)
    starts[answered, marked[answered, 0]] = 9.0
    ends[answered, marked[answered, 1]] = 9.0
    labels = (marked[:, 0], marked[:, 1])
    found = data.compute_metrics(EvalPrediction(predictions=(starts, ends), label_ids=labels))
    assert found == {"exact_match": 1.0, "f1": 1.0}
    assert data.description["counted"]["validation"]["windows"] == len(windows)
    assert data.description["counted"]["validation"]["answers in no window"] == 0


def test_any_accepted_answer_is_right(tmp_path: Path) -> None:
    task = on_rows(tmp_path, ROW)
    data = task.prepare(seed=0, cache_dir=tmp_path / "cache")
    assert data.compute_metrics.accepted == [["the file", "file"]]  # type: ignore[attr-defined]
    example = data.validation[0]
    text = data.tokenizer.decode(example["input_ids"][example["start_positions"] : example["end_positions"] + 1])  # type: ignore[union-attr]
    assert text == "the file"


def test_an_answer_at_another_place_is_not_learned_at_the_place_named(tmp_path: Path) -> None:
    moved = {**ROW, "context": "file the file", "answers": {"text": ["file"], "answer_start": [10]}}
    task = on_rows(tmp_path, moved, ROW)
    data = task.prepare(seed=0, cache_dir=tmp_path / "cache")
    assert data.description["counted"]["train"]["answers moved"] == 1
    example = data.train[0]
    assert data.tokenizer.decode(example["input_ids"][: example["start_positions"]]).endswith("file the")  # type: ignore[union-attr]


def test_a_language_is_not_told_from_the_id(tmp_path: Path) -> None:
    english = {**ROW, "id": "english-7"}
    write_split(tmp_path, "train", [english, ROW])
    write_split(tmp_path, "validation", [english, ROW, ROW])
    fields = {"language_column": "id", "language": "english", "evaluation_split": "validation"}
    task = build(data={"path": str(tmp_path)}, **fields, evaluation_languages=["english", "finnish"])
    data = task.prepare(seed=0, cache_dir=tmp_path / "cache")
    assert (data.description["train_rows"], data.description["validation_rows"]) == (1, 1)
    assert data.description["further_rows"] == {"english": 1, "finnish": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": {"text": [], "answer_start": []}}, r"row 0 of .*train.jsonl has no answer; .*SQuAD 2\.0"),
        ({"answers": {"text": ["x"], "answer_start": [0]}}, "has the answer 'x', which its context does not hold"),
        ({"answers": {"text": ["file"]}}, r"expected \{text: \[...\], answer_start: \[...\]\}"),
        ({"answers": "file"}, r"has 'file' under 'answers'"),
        ({"context": None}, "no text under 'context' but None"),
    ],
)
def test_a_broken_question_is_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        on_rows(tmp_path, {**ROW, **change}).prepare(seed=0, cache_dir=tmp_path / "cache")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"doc_stride": 44}, r"a window of 64 tokens has 44 left beside a question of 16.*raise max_length"),
        ({"doc_stride": 0}, "doc_stride: expected at least 1"),
        ({"n_best": 0}, "n_best: expected at least 1"),
        ({"data": {"generated": {"row": 3}}}, r"data\.generated\.row: unknown key. Did you mean `rows`"),
        ({"data": "squad"}, r"data: expected \{path: FOLDER\} or \{hub: ORG/NAME\}, got 'squad'"),
        ({"language": "english"}, "nothing says which language a row is of"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**fields)


@pytest.mark.slow
def test_a_reader_can_be_distilled(tmp_path: Path) -> None:
    training = {
        "use_cpu": True,
        "learning_rate": 3e-3,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 8,
        "max_steps": 12,
        "eval_strategy": "steps",
        "eval_steps": 6,
        "logging_steps": 6,
    }
    model = {"architecture": "bert", "config": BERT}
    recipe = Recipe.from_dict(
        {
            "name": "tiny-questions",
            "output_dir": str(tmp_path / "run"),
            "task": {
                "name": "question_answering",
                **SMALL,
                "data": {"generated": {"rows": 40, "validation_rows": 15}},
                "further_splits": ["test"],
            },
            "teacher": {
                "train": {"model": model, "training": {**training, "save_steps": 6, "save_only_model": True}},
            },
            "student": {"model": model},
            "compare": {
                "two_shot": {"name": "two_shot", "revision": 6, "steps": 6},
                "intra": {"name": "labels", "intra": {"passes": 2, "alpha": 1.0}},
            },
            "training": {**training, "save_strategy": "no"},
            "report": {"enabled": False},
        }
    )
    record = run_recipe(recipe)
    for run in record.runs:
        assert {"exact_match", "f1", "loss", "exact_match_test", "f1_test", "loss_test"} == set(run.final_metrics)
        assert all(math.isfinite(value) for value in run.final_metrics.values())
        assert run.history[-1]["loss"] < math.log(64)
