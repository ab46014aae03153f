from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import hf_distill.tasks.text_sources as text_sources
from hf_distill.tasks import CausalLM, MaskedLM
from hf_distill.tasks.text_task import TextTask

TASKS = (MaskedLM, CausalLM)
SMALL_BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def make(kind: type[TextTask], folder: Path, **fields: Any) -> TextTask:
    tokenizer = {"train": {"kind": "wordpiece", "vocab_size": 320}}
    return kind(**{"data": {"path": str(folder)}, "tokenizer": tokenizer, "max_length": 16, **fields})


@pytest.mark.parametrize("kind", TASKS)
def test_counts_in_the_description_are_those_of_the_data(
    kind: type[TextTask], text_folder: Path, cache_dir: Path
) -> None:
    data = make(kind, text_folder).prepare(seed=0, cache_dir=cache_dir)
    described = data.description
    documents = (text_folder / "documents.txt").read_text(encoding="utf-8").split("\n\n")
    assert described["train_documents"] + described["validation_documents"] == len(documents) == 400
    assert described["train_bytes"] + described["validation_bytes"] == sum(len(text.encode()) for text in documents)
    assert described["validation_rows"] == len(data.validation)
    attended = data.collator(data.validation.__getitems__(range(len(data.validation))))["attention_mask"]
    assert described["validation_tokens"] == attended.sum().item()
    assert described["vocabulary"] == len(data.processing_class)


@pytest.mark.parametrize("kind", TASKS)
def test_seeds_do_not_read_and_encode_the_text_again(kind: type[TextTask], text_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "text"
    shutil.copytree(text_folder, folder)
    task = make(kind, folder)
    first = task.prepare(seed=0, cache_dir=tmp_path)
    shutil.rmtree(folder)
    assert task.prepare(seed=1, cache_dir=tmp_path).fingerprint == first.fingerprint


@pytest.mark.parametrize("kind", TASKS)
def test_a_fingerprint_sees_a_change_and_no_move(
    kind: type[TextTask], text_folder: Path, tmp_path: Path, cache_dir: Path
) -> None:
    moved, changed = tmp_path / "moved", tmp_path / "changed"
    for folder in (moved, changed):
        shutil.copytree(text_folder, folder)
    text = (changed / "documents.txt").read_text(encoding="utf-8")
    (changed / "documents.txt").write_text(text.replace("parser reads", "parser returns", 1), encoding="utf-8")
    tasks = [make(kind, folder) for folder in (text_folder, moved, changed)] + [make(kind, moved, max_length=17)]
    prints = [task.prepare(seed=0, cache_dir=cache_dir).fingerprint for task in tasks]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_two_tasks_on_the_same_text_have_two_fingerprints(text_folder: Path, cache_dir: Path) -> None:
    prints = {make(kind, text_folder).prepare(seed=0, cache_dir=cache_dir).fingerprint for kind in TASKS}
    assert len(prints) == 2


def test_held_out_text_does_not_shape_the_vocabulary(tmp_path: Path, text_folder: Path) -> None:
    held_out = tmp_path / "held_out.txt"
    held_out.write_text("ξξξ ξξ ξ\n\nξξ ξξξ", encoding="utf-8")
    task = make(MaskedLM, text_folder, data={"path": str(text_folder), "validation_path": str(held_out)})
    data = task.prepare(seed=0, cache_dir=tmp_path)
    assert data.description["validation_documents"] == 2
    assert not any("ξ" in token for token in data.processing_class.get_vocab())


@pytest.mark.parametrize("kind", TASKS)
def test_too_little_text_is_refused(kind: type[TextTask], tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("only document")
    with pytest.raises(ValueError, match=r"leave (1|0) to train on and (0|1) held out.*validation_path"):
        make(kind, file).prepare(seed=0, cache_dir=tmp_path)
    data = {"path": str(file), "validation_path": str(file)}
    with pytest.raises(ValueError, match="less than one block of max_length = 500"):
        make(kind, file, data=data, max_length=500).prepare(seed=0, cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_length": 4}, "at least 8 tokens"),
        ({"validation_fraction": 0.0}, "between 0 and 1"),
        ({"data": "wikitext"}, "expected `python-docs`"),
        ({"tokenizer": {"train": {"kind": "bpe", "vocab": 9}}}, r"tokenizer\.train\.vocab"),
    ],
)
@pytest.mark.parametrize("kind", TASKS)
def test_a_mistake_is_found_before_reading(kind: type[TextTask], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(kind, Path("unread"), **fields)


@pytest.mark.parametrize(
    ("config", "message"),
    [({"vocab_size": 50}, "vocabulary has 50 entries"), ({"max_position_embeddings": 10}, "reads 10 positions")],
)
@pytest.mark.parametrize("kind", TASKS)
def test_a_model_that_cannot_read_the_text_is_refused(
    kind: type[TextTask], config: dict[str, int], message: str, text_folder: Path, cache_dir: Path
) -> None:
    task = make(kind, text_folder)
    data = task.prepare(seed=0, cache_dir=cache_dir)
    with pytest.raises(ValueError, match=message):
        task.build_model({"architecture": "bert", "config": {**SMALL_BERT, **config}}, data)


@pytest.mark.parametrize("kind", TASKS)
def test_the_tokenizer_is_known_to_the_model(kind: type[TextTask], text_folder: Path, cache_dir: Path) -> None:
    task = make(kind, text_folder)
    data = task.prepare(seed=0, cache_dir=cache_dir)
    config = task.build_model({"architecture": "bert", "config": SMALL_BERT}, data).config
    assert (config.vocab_size, config.pad_token_id) == (len(data.processing_class), data.processing_class.pad_token_id)


def test_python_docs_is_the_default() -> None:
    assert MaskedLM().data == CausalLM().data == "python-docs"
    assert isinstance(text_sources.text_source(MaskedLM().data), text_sources.PythonDocs)
