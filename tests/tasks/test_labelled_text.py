from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import bert_config
from tables import TOKENIZER, write_sentences
from transformers import BertForSequenceClassification, BertModel

from hf_distill.tasks import TASKS, Task
from hf_distill.tasks.table_task import evenly

BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
LABELS = [0, 1, 1, 0, 1, 0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sentences(tmp_path, ["sentence"], LABELS)


def build(folder: Path, **fields: Any) -> Task:
    spec = {"name": "glue", "subset": "cola", "data": {"path": str(folder)}, "tokenizer": TOKENIZER}
    return TASKS.build({**spec, **fields}, path="task")


def test_fewer_rows_are_not_the_first_ones(folder: Path) -> None:
    assert evenly(6, 3).tolist() == [0, 2, 4]
    assert evenly(6, 6).tolist() == list(range(6))
    data = build(folder, train_examples=3, validation_examples=2).prepare(seed=0, cache_dir=folder)
    assert data.train.batch(np.arange(3))["labels"].tolist() == [0, 1, 1]  # type: ignore[attr-defined]
    assert (data.description["train_rows"], data.description["validation_rows"]) == (3, 2)
    with pytest.raises(ValueError, match=r"train_examples: 7 asked for, but .*train.jsonl has 6"):
        build(folder, train_examples=7).prepare(seed=0, cache_dir=folder)


def test_a_moved_folder_is_the_same_data(folder: Path, tmp_path: Path) -> None:
    other = write_sentences(tmp_path / "moved", ["sentence"], LABELS)
    found = [
        build(place).prepare(seed=seed, cache_dir=tmp_path).fingerprint for seed, place in ((0, folder), (1, other))
    ]
    assert found[0] == found[1]
    assert build(folder, max_length=64).prepare(seed=0, cache_dir=tmp_path).fingerprint != found[0]


def test_held_out_text_does_not_shape_the_vocabulary(folder: Path) -> None:
    write_sentences(folder, ["sentence"], LABELS, splits=("train",))
    before = build(folder).prepare(seed=0, cache_dir=folder / "a").tokenizer
    (folder / "validation.jsonl").write_text('{"sentence": "zebra zebra", "label": 1}\n')
    after = build(folder).prepare(seed=0, cache_dir=folder / "b").tokenizer
    assert before is not None and after is not None
    assert before.get_vocab() == after.get_vocab()


def test_pretrained_weights_learn_the_names_of_the_answers(folder: Path, tmp_path: Path) -> None:
    task = build(folder)
    data = task.prepare(seed=0, cache_dir=folder)
    vocabulary = {"vocab_size": len(data.tokenizer), "max_position_embeddings": 128}  # type: ignore[arg-type]
    BertModel(bert_config(**vocabulary)).save_pretrained(tmp_path / "base")
    model = task.build_model({"pretrained": str(tmp_path / "base")}, data)
    assert model.config.id2label == {0: "unacceptable", 1: "acceptable"}
    other = bert_config(id2label={0: "ham", 1: "spam"}, **vocabulary)
    BertForSequenceClassification(other).save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match=r"its classes are \['ham', 'spam'\], those of the data \['unacceptable'"):
        task.build_model({"pretrained": str(tmp_path / "other")}, data)


def test_a_decoder_reads_a_batch_without_padding_of_its_own(folder: Path) -> None:
    task = build(folder, tokenizer={"train": {"kind": "bpe", "vocab_size": 320}})
    data = task.prepare(seed=0, cache_dir=folder)
    torch.manual_seed(0)
    model = task.build_model(
        {"architecture": "gpt2", "config": {"n_embd": 16, "n_head": 2, "n_layer": 1}}, data
    ).eval()
    batch = data.collator(data.validation.__getitems__(range(4)))  # type: ignore[attr-defined]
    with torch.no_grad():
        together = model(**batch).logits
        alone = torch.cat([model(**data.collator([data.validation[row]])).logits for row in range(4)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_model_that_cannot_read_the_data_is_refused(folder: Path) -> None:
    task = build(folder)
    data = task.prepare(seed=0, cache_dir=folder)
    with pytest.raises(ValueError, match=r"reads 64 positions, but task\.max_length is 128"):
        task.build_model({"architecture": "bert", "config": {**BERT, "max_position_embeddings": 64}}, data)
    with pytest.raises(ValueError, match="those of the data"):
        task.build_model({"architecture": "bert", "config": {**BERT, "num_labels": 3}}, data)
