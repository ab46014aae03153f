from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from hf_distill.reading.signals import IGNORE_INDEX
from hf_distill.tasks import CausalLM, TaskData
from hf_distill.tasks.causal_lm import CausalBlocks
from hf_distill.tasks.text_blocks import Blocks, end_of_document_id, split_by_hash, token_stream
from hf_distill.tasks.text_sources import LocalText

SMALL_GPT2 = {"n_embd": 16, "n_head": 2, "n_layer": 1}
SMALL_BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture
def task(text_folder: Path) -> CausalLM:
    tokenizer = {"train": {"kind": "bpe", "vocab_size": 320}}
    return CausalLM(data={"path": str(text_folder)}, tokenizer=tokenizer, max_length=32)


@pytest.fixture
def data(task: CausalLM, cache_dir: Path) -> TaskData:
    return task.prepare(seed=0, cache_dir=cache_dir)


@pytest.fixture
def held_out(text_folder: Path) -> list[str]:
    return split_by_hash(LocalText(path=str(text_folder)).read().train, 0.05)[1]


def everything(dataset: Any) -> dict[str, torch.Tensor]:
    return dataset.__getitems__(range(len(dataset)))[0]


def test_each_held_out_token_is_predicted_once(data: TaskData, held_out: list[str]) -> None:
    labels = everything(data.validation)["labels"][:, 1:]
    predicted = labels[labels != IGNORE_INDEX].tolist()
    assert predicted == token_stream(data.processing_class, held_out).tolist()
    assert data.processing_class.decode(predicted).split("<|endoftext|>")[:-1] == list(held_out)


def test_labels_are_the_unshifted_tokens_and_padding_has_none(data: TaskData) -> None:
    for dataset in (data.train, data.validation):
        batch = everything(dataset)
        attended = batch["attention_mask"].bool()
        assert torch.equal(batch["labels"][attended], batch["input_ids"][attended])
        assert (batch["labels"][~attended] == IGNORE_INDEX).all()
    assert not attended.all(), "the held-out tail is dropped"


def test_the_end_of_a_document_is_learnt_where_it_is_the_padding_too() -> None:
    end = 0
    blocks = Blocks(np.array([[5, end, 6, end, end, end]], dtype=np.int32), np.array([4], dtype=np.int32))
    batch = CausalBlocks(blocks)[0]
    assert batch["labels"].tolist() == [5, end, 6, end, IGNORE_INDEX, IGNORE_INDEX]
    assert batch["attention_mask"].tolist() == [1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("spec", [("gpt2", SMALL_GPT2), ("bert", SMALL_BERT)], ids=["gpt2", "bert"])
def test_a_model_does_not_see_the_token_it_predicts(
    spec: tuple[str, dict[str, int]], task: CausalLM, data: TaskData
) -> None:
    model = task.build_model({"architecture": spec[0], "config": spec[1]}, data).eval()
    ids = everything(data.train)["input_ids"][:2]
    changed = ids.clone()
    changed[:, 20:] = 7
    with torch.no_grad():
        torch.testing.assert_close(model(changed).logits[:, :20], model(ids).logits[:, :20], rtol=0, atol=1e-6)
    end = end_of_document_id(data.processing_class)
    assert (model.config.eos_token_id, model.config.bos_token_id) == (end, end)


def test_the_trainer_measures_the_same(task: CausalLM, data: TaskData, held_out: list[str], tmp_path: Path) -> None:
    trainer = Trainer(
        model=task.build_model({"architecture": "gpt2", "config": SMALL_GPT2}, data),
        args=TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none", disable_tqdm=True),
        eval_dataset=data.validation,
        data_collator=data.collator,
        compute_metrics=data.compute_metrics,
        preprocess_logits_for_metrics=data.preprocess_logits_for_metrics,
    )
    measured = trainer.evaluate()
    batch = everything(data.validation)
    with torch.no_grad():
        logits = trainer.model.eval()(batch["input_ids"], attention_mask=batch["attention_mask"]).logits.double()
    labels = batch["labels"][:, 1:]
    chosen = labels != IGNORE_INDEX
    total = torch.nn.functional.cross_entropy(logits[:, :-1][chosen], labels[chosen], reduction="sum").item()
    text_bytes = sum(len(text.encode()) for text in held_out)
    mean = total / chosen.sum().item()
    expected = {
        "eval_nll": mean,
        "eval_perplexity": math.exp(mean),
        "eval_bits_per_byte": total / math.log(2) / text_bytes,
        "eval_next_token_accuracy": (logits[:, :-1][chosen].argmax(-1) == labels[chosen]).double().mean().item(),
    }
    assert {key: measured[key] for key in expected} == pytest.approx(expected, rel=1e-5)
    assert measured["eval_loss"] == pytest.approx(mean, rel=0.05)  # the stock Trainer's mean of batch means
