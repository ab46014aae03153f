"""Both sides encoded for a decoder, models that start it alike, generation by default; whole recipes, teachers too."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tables import write_pairs, write_split
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, EvalPrediction

from hf_distill.pipeline.run import run_recipe
from hf_distill.recipe.recipe import Recipe
from hf_distill.seq2seq_trainer import ProgressiveDistillSeq2SeqConfig, ProgressiveDistillSeq2SeqTrainer
from hf_distill.tasks import TASKS
from hf_distill.tasks.seq2seq_task import Seq2SeqTask

BYTES = {"train": {"kind": "bpe", "vocab_size": 320}}
T5 = {"architecture": "t5", "config": {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}}
MARIAN_SIZES = {
    f"{side}_{what}": number
    for side in ("encoder", "decoder")
    for what, number in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 8))
}
MARIAN = {"architecture": "marian", "config": {"d_model": 8, "max_position_embeddings": 128, **MARIAN_SIZES}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "data", splits=("train", "validation", "test"))


def build(folder: Path, **fields: Any) -> Seq2SeqTask:
    spec = {"name": "translation", "source_lang": "en", "target_lang": "de", "data": {"path": str(folder)}}
    task = TASKS.build({**spec, "tokenizer": BYTES, **fields}, path="task")
    assert isinstance(task, Seq2SeqTask)
    return task


def test_labels_are_as_wide_as_the_target_and_padded_with_no_token(folder: Path) -> None:
    data = build(folder).prepare(seed=0, cache_dir=folder.parent)
    batch = data.collator(data.train.__getitems__([0, 1, 2, 3]))  # type: ignore[attr-defined]
    by_hand = data.collator([data.train[row] for row in range(4)])
    assert set(batch) == {"input_ids", "attention_mask", "labels"}
    assert all(torch.equal(batch[key], by_hand[key]) for key in batch)
    tokenizer = data.tokenizer
    assert tokenizer is not None
    for row in range(4):
        source, target = ("en", "de")
        texts = pair_of(folder, row)
        ids, labels = batch["input_ids"][row], batch["labels"][row]
        assert tokenizer.decode(ids[batch["attention_mask"][row] == 1]) == f"{texts[source]}<|endoftext|>"
        assert tokenizer.decode(labels[labels >= 0]) == f"{texts[target]}<|endoftext|>"
    assert (batch["labels"] == -100).any() and batch["labels"].shape[1] != batch["input_ids"].shape[1]


def pair_of(folder: Path, row: int) -> dict[str, str]:
    return json.loads((folder / "train.jsonl").read_text().splitlines()[row])["translation"]


def test_the_prefix_is_part_of_the_source(folder: Path) -> None:
    data = build(folder, prefix="translate: ").prepare(seed=0, cache_dir=folder.parent)
    assert data.tokenizer is not None
    assert data.tokenizer.decode(data.train[0]["input_ids"]).startswith("translate: ")
    assert not data.tokenizer.decode(data.train[0]["labels"]).startswith("translate: ")


def test_cut_sides_are_counted(folder: Path) -> None:
    task = build(folder, max_source_length=6, max_target_length=64)
    description = task.prepare(seed=0, cache_dir=folder.parent).description
    lengths = [len(ids) for ids in whole_sources(folder)]
    cut = sum(length > 6 for length in lengths)
    assert 0 < cut < 12
    assert description["counted"]["train"] == {"sources cut": cut, "targets cut": 0}
    assert "at most 6 tokens of a source and 64 of a target" in description["preprocessing"]
    assert f"{cut} sources cut in train" in description["preprocessing"]


def whole_sources(folder: Path) -> list[Any]:
    data = build(folder).prepare(seed=0, cache_dir=folder.parent)
    return [data.train[row]["input_ids"] for row in range(len(data.train))]  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", [T5, MARIAN], ids=["t5", "marian"])
def test_a_decoder_starts_and_ends_with_the_tokenizers_tokens(folder: Path, tmp_path: Path, spec) -> None:
    task = build(folder)
    data = task.prepare(seed=0, cache_dir=folder.parent)
    tokenizer = data.tokenizer
    assert tokenizer is not None
    task.build_model(spec, data).save_pretrained(tmp_path / "model")
    model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model")
    for config in (model.config, model.generation_config):
        assert config.decoder_start_token_id == config.pad_token_id == tokenizer.pad_token_id
        assert config.eos_token_id == tokenizer.eos_token_id
    assert model.get_output_embeddings().weight.shape[0] == len(tokenizer)


def test_a_model_that_cannot_read_the_data_is_refused(folder: Path, tmp_path: Path) -> None:
    task = build(folder)
    data = task.prepare(seed=0, cache_dir=folder.parent)
    short = {**MARIAN, "config": {**MARIAN["config"], "max_position_embeddings": 64}}
    with pytest.raises(ValueError, match=r"reads 64 positions, but task\.max_source_length and task\.max_target_len"):
        task.build_model(short, data)
    with pytest.raises(ValueError, match="its vocabulary has 100 entries, the tokenizer 320"):
        task.build_model({**T5, "config": {**T5["config"], "vocab_size": 100}}, data)
    with pytest.raises(ValueError, match="its padding token is 7, the tokenizer's 0"):
        task.build_model({**T5, "config": {**T5["config"], "pad_token_id": 7}}, data)


def test_evaluations_generate_and_do_not_stop_too_early(folder: Path) -> None:
    task = build(folder, max_target_length=20)
    assert task.training_defaults() == {"predict_with_generate": True, "generation_max_length": 21}
    assert task.trainer_class() is ProgressiveDistillSeq2SeqTrainer
    assert task.config_class() is ProgressiveDistillSeq2SeqConfig


@pytest.mark.parametrize("field", ["max_source_length", "max_target_length"])
def test_sides_of_three_tokens_are_refused(folder: Path, field: str) -> None:
    with pytest.raises(ValueError, match=f"{field}: expected at least 4 tokens, got 3"):
        build(folder, **{field: 3})


def test_an_empty_split_is_refused(folder: Path) -> None:
    write_split(folder, "validation", [])
    with pytest.raises(ValueError, match=r"validation\.jsonl is empty; a split needs a row at least"):
        build(folder).prepare(seed=0, cache_dir=folder.parent)


def recipe_of(folder: Path, output_dir: Path, **more: Any) -> Recipe:
    training = {"max_steps": 4, "per_device_train_batch_size": 4, "eval_strategy": "steps", "eval_steps": 2}
    training |= {"save_strategy": "steps", "save_steps": 2, "learning_rate": 0.01, "use_cpu": True}
    task = {"name": "translation", "source_lang": "en", "target_lang": "de", "tokenizer": BYTES}
    return Recipe.from_dict(
        {
            "name": "tiny",
            "output_dir": str(output_dir),
            "task": {**task, "data": {"path": str(folder)}, "max_target_length": 24, "further_splits": ["test"]},
            "teacher": {"train": {"model": MARIAN, "training": training}},
            "student": {"model": MARIAN},
            "training": training,
            "compare": {
                "two_shot": {"name": "two_shot", "revision": "checkpoint-2", "steps": 2},
                "extraction": {"name": "extraction", "steps": 1, "layers": [[1, 1]]},
                "intra": {"name": "labels", "intra": {"passes": 2, "alpha": 1.0, "p": 5, "q": 10}},
            },
            **more,
        }
    )


@pytest.mark.slow
def test_a_recipe_translates_from_end_to_end(folder: Path, tmp_path: Path) -> None:
    record = run_recipe(recipe_of(folder, tmp_path / "run"))
    assert [run.curriculum for run in record.runs] == ["two_shot", "extraction", "intra"]
    for metrics in (record.teacher["final_metrics"], *(run.final_metrics for run in record.runs)):
        assert {"bleu", "chrf", "length_ratio", "loss", "bleu_test", "chrf_test"} <= set(metrics)
        assert all(math.isfinite(value) for value in metrics.values())
    assert record.task["description"]["metric_signatures"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")
    student = tmp_path / "run" / record.runs[0].folder
    model, tokenizer = AutoModelForSeq2SeqLM.from_pretrained(student), AutoTokenizer.from_pretrained(student)
    written = model.generate(**tokenizer(["the parser"], return_tensors="pt"), max_length=24)
    assert written.shape[0] == 1 and tokenizer("the")["input_ids"][-1] == tokenizer.eos_token_id


def test_without_generation_the_metrics_say_why_there_are_none(folder: Path, tmp_path: Path) -> None:
    recipe = recipe_of(folder, tmp_path / "run", teacher=None, compare={"labels": {"name": "labels"}})
    recipe = Recipe.from_dict({**recipe.to_dict(), "training": {**recipe.training, "predict_with_generate": False}})
    with pytest.raises(ValueError, match="set predict_with_generate: true"):
        run_recipe(recipe)


@pytest.mark.slow
def test_what_a_model_has_learned_is_written(tmp_path: Path) -> None:
    """Trained until it knows its pairs by heart, a tiny T5 writes them."""
    rows = [{"translation": {"en": en, "de": de}} for en, de in (("a cat", "eine Katze"), ("two dogs", "zwei Hunde"))]
    folder = write_split(write_split(tmp_path, "train", rows), "validation", rows)
    task = build(folder)
    data = task.prepare(seed=0, cache_dir=tmp_path)
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
    model = task.build_model({"architecture": "t5", "config": sizes}, data)
    batch = data.collator(data.train.__getitems__([0, 1]))  # type: ignore[attr-defined]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        model(**batch).loss.backward()
        optimizer.step()
    written = model.eval().generate(
        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_length=40
    )
    metrics = data.compute_metrics(EvalPrediction(predictions=written.numpy(), label_ids=batch["labels"].numpy()))
    assert metrics == pytest.approx({"bleu": metrics["bleu"], "chrf": 100.0, "length_ratio": 1.0})
