"""The recipes of labelled text without the Hub: tables of noise with its columns, tiny models instead of XLM-R."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from builders import bert_config
from datasets import ClassLabel, Dataset, Features, List, Value
from tables import TAGS, WORDS, sentence_rows, tagged_rows, write_split, write_tagged
from transformers import BertModel

from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.run_record import RunRecord
from hf_distill.tasks.tokenizer_training import train_tokenizer


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder as the Hub's base models are: weights without a head, and their tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer([" ".join(WORDS)] * 20, kind="wordpiece", vocab_size=320, token_types=True)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    sizes = {"num_hidden_layers": 8, "hidden_size": 8, "intermediate_size": 8, "max_position_embeddings": 384}
    BertModel(bert_config(**sizes, vocab_size=len(tokenizer), hidden_dropout_prob=0.1)).save_pretrained(folder)
    return str(folder)


def short(path: str, steps: int, given: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {"max_steps": steps, "eval_steps": steps, "logging_steps": steps, "warmup_steps": 1}
    values |= {"per_device_train_batch_size": 2, "bf16": False, "use_cpu": True, "eval_strategy": "steps"}
    values |= {"gradient_accumulation_steps": 2} if "gradient_accumulation_steps" in given else {}
    values |= {"save_steps": steps // 2} if given.get("save_strategy") != "no" else {}
    values |= {"save_steps": steps, "save_strategy": "steps"} if given.get("load_best_model_at_end") else {}
    return {f"{path}.{key}": value for key, value in values.items()}


def run(name: str, folder: Path, pretrained: str, **changes: Any) -> RunRecord:
    recipe = Recipe.load(name)
    changes |= {"output_dir": str(folder / "run"), "seeds": recipe.seeds[:1], "report.enabled": False}
    # A quarter of the steps is for the six layers of `extraction`.
    steps = 24 if "extraction" in recipe.curricula() else 4
    changes |= {"task.tokenizer": {"pretrained": pretrained}, **short("training", steps, recipe.training)}
    if recipe.teacher is not None:
        assert recipe.teacher.train is not None
        changes |= {"teacher.train.model": {"pretrained": pretrained}}
        changes |= short("teacher.train.training", 4, recipe.teacher.train.training)
    if "pretrained" in recipe.student.model:
        changes["student.model"] = {"pretrained": pretrained}
    changes |= {f"compare.{k}.interval": 1 for k, spec in recipe.curricula().items() if "interval" in spec}
    return run_recipe(Recipe.load(name, overrides=[f"{key}={json.dumps(value)}" for key, value in changes.items()]))


@pytest.mark.slow
@pytest.mark.parametrize("subset", ["stsb", "mnli"])
def test_glue_recipes_run_on_the_data_that_they_were_written_for(subset: str, tmp_path: Path, pretrained: str) -> None:
    columns = ["premise", "hypothesis"] if subset == "mnli" else ["sentence1", "sentence2"]
    labels: list[Any] = [0, 1, 2] * 4 if subset == "mnli" else [0.0, 2.5, 5.0] * 4
    splits = ["train", "validation_matched", "validation_mismatched"] if subset == "mnli" else ["train", "validation"]
    for seed, split in enumerate(splits):
        write_split(tmp_path / "data", split, sentence_rows(columns, labels, seed=seed))
    name = f"glue/bert_base_{subset}"
    record = run(name, tmp_path, pretrained, **{"task.data": {"path": str(tmp_path / "data")}})
    assert [one.curriculum for one in record.runs] == list(Recipe.load(name).curricula())
    for one in record.runs:
        assert ("accuracy_mismatched" in one.final_metrics) == (subset == "mnli")
    config = json.loads((tmp_path / "run" / record.runs[0].folder / "config.json").read_text())
    assert config["num_hidden_layers"] == 6


@pytest.mark.slow
def test_the_published_intra_distillation_runs_on_glue(tmp_path: Path, pretrained: str) -> None:
    for split in ("train", "validation"):
        write_split(tmp_path / "data", split, sentence_rows(["question1", "question2"], [0, 1] * 4))
    data = {"task.data": {"path": str(tmp_path / "data")}}
    record = run("intra_distillation/glue_bert_base", tmp_path, pretrained, **data)
    assert {"f1", "accuracy"} <= set(record.runs[0].final_metrics)


@pytest.mark.slow
def test_the_languages_of_xtreme_are_looked_at(tmp_path: Path, pretrained: str) -> None:
    for language in ("en", "de", "sw"):
        write_tagged(tmp_path / language, splits=("train", "validation", "test"), count=6)
    data = {"task.data": {"path": str(tmp_path / "{language}")}, "task.evaluation_languages": ["en", "de", "sw"]}
    record = run("token_classification/panx_xlmr", tmp_path, pretrained, **data)
    for one in record.runs:
        assert {"f1", "f1_en", "f1_de", "f1_sw", "f1_mean_languages"} <= set(one.final_metrics)
    assert record.task["description"]["labels"] == list(TAGS)
    assert len(Recipe.load("token_classification/panx_xlmr").task["evaluation_languages"]) == 48


@pytest.mark.slow
def test_the_languages_of_tydiqa_are_looked_at(tmp_path: Path, pretrained: str) -> None:
    """Parquet files with the columns of the Hub's secondary_task."""
    languages = Recipe.load("question_answering/tydiqa_xlmr").task["evaluation_languages"]
    answers = {"text": List(Value("string")), "answer_start": List(Value("int32"))}
    text = dict.fromkeys(("id", "title", "context", "question"), Value("string"))
    rows = [
        {
            "id": f"{language}-{row['id']}-1",
            "title": "t",
            "context": " ".join(row["tokens"] * 9),
            "question": "value",
            "answers": {"text": [row["tokens"][0]], "answer_start": [0]},
        }
        for language in languages
        for row in tagged_rows(3)
    ]
    (tmp_path / "hub").mkdir()
    for split in ("train", "validation"):
        Dataset.from_list(rows, features=Features({**text, "answers": answers})).to_parquet(
            str(tmp_path / "hub" / f"{split}.parquet")
        )
    record = run(
        "question_answering/tydiqa_xlmr", tmp_path, pretrained, **{"task.data": {"hub": str(tmp_path / "hub")}}
    )
    for one in record.runs:
        assert {f"f1_{language}" for language in languages} < set(one.final_metrics)
        assert "exact_match_mean_languages" in one.final_metrics
    assert record.task["description"]["train_rows"] == 3


@pytest.mark.slow
def test_the_hubs_layout_of_wikiann_is_read(tmp_path: Path) -> None:
    from hf_distill.tasks import TASKS

    tags = List(ClassLabel(names=["O", "B-PER", "I-PER"]))
    features = Features({"tokens": List(Value("string")), "ner_tags": tags, "langs": List(Value("string"))})
    for split in ("train", "validation"):
        rows = [{"tokens": ["a", "b"], "ner_tags": [1, 2], "langs": ["en", "en"]}]
        Dataset.from_list(rows, features=features).to_parquet(str(tmp_path / f"{split}.parquet"))
    spec = {"name": "token_classification", "data": {"hub": str(tmp_path)}}
    tokenizer = {"train": {"kind": "wordpiece", "vocab_size": 300}}
    data = TASKS.build({**spec, "tokenizer": tokenizer}, path="task").prepare(seed=0, cache_dir=tmp_path / "cache")
    assert data.description["labels"] == ["O", "B-PER", "I-PER"]
