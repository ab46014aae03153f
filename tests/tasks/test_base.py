from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from tables import pair_rows, write_pairs, write_sentences, write_split, write_tagged
from transformers import AutoModel

from hf_distill.models.outputs import logits_of, predictions_of
from hf_distill.strict_dataclass import from_mapping, to_mapping
from hf_distill.tasks import TASKS, Task

TOKENIZER = {"train": {"kind": "wordpiece", "vocab_size": 320}}
BYTES = {"train": {"kind": "bpe", "vocab_size": 320}}
SMALL: dict[str, dict[str, Any]] = {
    "parity": {"d": 12, "k": 2, "train_examples": 50, "validation_examples": 20},
    "noisy_sinusoid": {"train_examples": 50, "validation_examples": 20},
    "image_classification": {"train_examples": 50, "crop_padding": 1, "flip": True, "copies": 3},
    "pcfg": {"root": 16, "train_examples": 50, "validation_examples": 20},
    "pcfg_causal": {"root": 16, "train_examples": 50, "validation_examples": 20},
    "masked_lm": {"tokenizer": TOKENIZER, "max_length": 16},
    "causal_lm": {"tokenizer": TOKENIZER, "max_length": 16},
    "glue": {"tokenizer": TOKENIZER, "subset": "mrpc"},
    "text_classification": {"tokenizer": TOKENIZER},
    "token_classification": {"tokenizer": TOKENIZER},
    "question_answering": {
        "tokenizer": TOKENIZER,
        "data": {"generated": {"rows": 6, "validation_rows": 5}},
        "max_length": 48,
        "doc_stride": 8,
        "max_question_length": 16,
    },
    "translation": {"tokenizer": BYTES, "source_lang": "en", "target_lang": "de", "max_target_length": 12},
    "summarization": {"tokenizer": BYTES, "text_column": "text", "summary_column": "summary"},
}
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
T5 = {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
MODELS: dict[str, dict[str, Any]] = {
    "regression": {"architecture": "sinusoid_mlp", "config": {"hidden_size": 8}},
    "classification": {"architecture": "parity_mlp", "config": {"width": 8}},
    "masked_lm": {"architecture": "distilbert", "config": {"dim": 8, "n_heads": 2, "n_layers": 1, "hidden_dim": 8}},
    "causal_lm": {"architecture": "gpt2", "config": {"n_embd": 8, "n_head": 2, "n_layer": 1}},
    "image_classification": {"architecture": "resnet", "config": {"hidden_sizes": [4, 8], "depths": [1, 1]}},
    "glue": {"architecture": "bert", "config": BERT},
    "text_classification": {"architecture": "bert", "config": BERT},
    "token_classification": {"architecture": "bert", "config": BERT},
    "question_answering": {"architecture": "bert", "config": BERT},
    "seq2seq_lm": {
        "architecture": "t5",
        "config": {"d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2},
    },
}


def write_data(name: str, folder: Path) -> Path | None:
    """Write the small data set of a task that reads local files; None for others."""
    if name == "glue":
        return write_sentences(folder, ["sentence1", "sentence2"], [0, 1, 1, 0, 1])
    if name == "text_classification":
        return write_sentences(folder, ["text"], ["no", "yes", "yes", "no", "yes"])
    if name == "translation":
        return write_pairs(folder)
    if name == "summarization":
        rows = [{"text": row["translation"]["en"], "summary": row["translation"]["de"]} for row in pair_rows(12)]
        return write_split(write_split(folder, "train", rows), "validation", rows[:5])
    return write_tagged(folder) if name == "token_classification" else None


# Other tests register tasks of their own, which are not the package's.
OURS = [name for name in TASKS.names() if TASKS.get(name).__module__.startswith("hf_distill.")]


@pytest.fixture(params=OURS)
def task(request: pytest.FixtureRequest, text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Task:
    name = request.param
    assert name in SMALL, f"add small fields for the task {name} to this file"
    folder = text_folder if name in ("masked_lm", "causal_lm") else write_data(name, tmp_path_factory.mktemp(name))
    data = {"data": {"path": str(folder)}} if folder is not None else {}
    return TASKS.build({"name": name, **SMALL[name], **data}, path="task")


def model_of(task: Task) -> dict[str, Any]:
    name = TASKS.name_of(type(task))
    return MODELS[name if name in MODELS else task.head]


def test_a_task_is_what_its_class_says(task: Task, cache_dir: Path) -> None:
    data = task.prepare(seed=0, cache_dir=cache_dir)
    model = task.build_model(model_of(task), data).eval()
    # Whole, because metrics of answers need every window of a question.
    batch = data.collator(data.validation.__getitems__(range(len(data.validation))))  # type: ignore[attr-defined, arg-type]
    predictions: Any = predicted(task, model, {name: values for name, values in batch.items() if name != "labels"})
    keys = ("start_positions", "end_positions") if task.head == "question_answering" else ("labels",)
    labels = tuple(batch[key] for key in keys)
    if data.preprocess_logits_for_metrics is not None:
        predictions = data.preprocess_logits_for_metrics(predictions, labels[0])
    metrics = data.compute_metrics(
        _prediction(_arrays(predictions), _arrays(labels if len(labels) > 1 else labels[0]))
    )
    assert task.metric in metrics
    assert all(type(value) is float for value in metrics.values())
    assert not any(name.startswith("eval_") for name in metrics)


def predicted(task: Task, model: Any, inputs: dict[str, Any]) -> Any:
    """What an evaluation hands to the metrics: logits, or what the model writes."""
    if task.training_defaults().get("predict_with_generate"):
        return model.generate(**inputs, max_length=task.training_defaults()["generation_max_length"])
    with torch.no_grad():
        output = model(**inputs)
    found = predictions_of(task.head, logits_of(output, inputs.get("attention_mask")))
    return tuple(found.values()) if len(found) > 1 else found["logits"]


def _arrays(values: Any) -> Any:
    return tuple(value.numpy() for value in values) if isinstance(values, tuple) else values.numpy()


def _prediction(predictions: Any, labels: Any) -> Any:
    from transformers import EvalPrediction

    return EvalPrediction(predictions=predictions, label_ids=labels)


def test_preparing_twice_gives_the_same_data(task: Task, cache_dir: Path) -> None:
    one, two = (task.prepare(seed=5, cache_dir=cache_dir) for _ in range(2))
    assert one.fingerprint == two.fingerprint
    for left, right in ((one.train, two.train), (one.validation, two.validation)):
        assert len(left) == len(right)
        for row in (0, len(left) - 1):
            assert all(torch.equal(left[row][name], right[row][name]) for name in left[row])


def test_held_out_data_does_not_depend_on_the_training_seed(task: Task, cache_dir: Path) -> None:
    one, two = (task.prepare(seed=seed, cache_dir=cache_dir) for seed in (0, 1))
    assert one.fingerprint == two.fingerprint
    rows = range(len(one.validation))
    left, right = one.validation.__getitems__(rows)[0], two.validation.__getitems__(rows)[0]
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_preparing_does_not_draw_from_the_global_generator(task: Task, cache_dir: Path) -> None:
    before = torch.get_rng_state()
    data = task.prepare(seed=0, cache_dir=cache_dir)
    data.collator(data.train.__getitems__([0, 1]))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_description_can_be_written_as_json(task: Task, cache_dir: Path) -> None:
    description = task.prepare(seed=0, cache_dir=cache_dir).description
    assert {"datasets", "source", "preprocessing", "train_rows", "validation_rows"} <= set(description)
    assert json.loads(json.dumps(description, allow_nan=False)) == description


def test_a_saved_student_loads_as_the_task_expects(task: Task, cache_dir: Path, tmp_path: Path) -> None:
    model = task.build_model(model_of(task), task.prepare(seed=0, cache_dir=cache_dir))
    model.save_pretrained(tmp_path)
    loaded = task.auto_class().from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert type(loaded) is not AutoModel


def test_every_field_is_explained(task: Task) -> None:
    assert all(field.metadata.get("help") for field in fields(task))
    assert from_mapping(type(task), to_mapping(task)) == task


def test_an_unknown_task_gives_a_hint() -> None:
    with pytest.raises(ValueError, match="mean 'parity'"):
        TASKS.get("party")
