from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from transformers import EvalPrediction

from hf_distill.tasks import TASKS, Parity, TaskData

NOWHERE = Path("unused")


def prepared(seed: int = 0, **fields: Any) -> TaskData:
    return Parity(**fields).prepare(seed=seed, cache_dir=NOWHERE)


def examples(data: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    batch = data.__getitems__(range(count))[0]
    signs = batch["inputs"] if "inputs" in batch else 1 - 2 * batch["input_ids"]
    return signs.numpy(), batch["labels"].numpy()


@pytest.mark.parametrize("inputs", ["vector", "tokens"])
@pytest.mark.parametrize("support", ["first", "random"])
@pytest.mark.parametrize(("d", "k"), [(50, 4), (64, 1), (65, 65), (130, 6)])
def test_a_label_is_the_product_over_the_support(d: int, k: int, support: str, inputs: str) -> None:
    task = Parity(d=d, k=k, support=support, inputs=inputs)
    signs, labels = examples(task.prepare(seed=3, cache_dir=NOWHERE).train, 500)
    assert signs.shape == (500, d)
    assert set(np.unique(signs)) == {-1, 1}
    np.testing.assert_array_equal(labels, (1 - signs[:, task.support_indices()].prod(1)) / 2)


def test_classes_and_coordinates_are_balanced() -> None:
    signs, labels = examples(prepared().train, 40_000)
    assert abs(labels.mean() - 0.5) < 4.5 * 0.5 / 200
    assert np.abs(signs.mean(0)).max() < 4.5 / 200


def test_fewer_coordinates_than_the_support_do_not_give_the_label_away() -> None:
    signs, labels = examples(prepared(d=10, k=4).train, 40_000)
    target = 1 - 2 * labels
    for size in (1, 2, 3):
        for chosen in combinations(range(10), size):
            assert abs((signs[:, chosen].prod(1) * target).mean()) < 5 / 200
    assert (signs[:, :4].prod(1) * target).mean() == 1.0


def test_vector_and_tokens_are_the_same_examples() -> None:
    vector, tokens = (examples(prepared(inputs=inputs).train, 20) for inputs in ("vector", "tokens"))
    np.testing.assert_array_equal(vector[0], tokens[0])
    np.testing.assert_array_equal(vector[1], tokens[1])


def test_a_resumed_run_sees_the_same_examples() -> None:
    first, again = prepared().train, prepared().train
    wanted = [5, 900_000, 17]
    one_by_one = torch.stack([again[row]["inputs"] for row in wanted])
    assert torch.equal(first.__getitems__(wanted)[0]["inputs"], one_by_one)


def test_training_seeds_share_no_training_examples_and_all_that_is_held_out() -> None:
    zero, one = prepared(seed=0), prepared(seed=1)
    assert not _shared_rows(zero.train, one.train)
    assert np.array_equal(examples(zero.validation, 4000)[0], examples(one.validation, 4000)[0])


def test_held_out_examples_are_not_trained_on_and_follow_the_data_seed() -> None:
    data = prepared(seed=0, data_seed=0)
    assert not _shared_rows(data.train, data.validation)
    assert not _shared_rows(prepared(data_seed=1).validation, data.validation)


def _shared_rows(left: Any, right: Any) -> bool:
    rows = [{row.tobytes() for row in examples(data, 4000)[0]} for data in (left, right)]
    return bool(rows[0] & rows[1])


def test_a_random_support_stays_between_runs_and_is_not_the_first() -> None:
    supports = {tuple(Parity(support="random", data_seed=seed).support_indices()) for seed in (0, 0, 1, 2)}
    assert len(supports) == 3
    assert all(len(set(indices)) == 4 and max(indices) < 50 for indices in supports)
    assert Parity().support_indices().tolist() == [0, 1, 2, 3]


def test_making_a_batch_takes_less_time_than_a_step_of_a_small_network() -> None:
    data = prepared()
    rows = np.random.default_rng(0).integers(0, len(data.train), (20, 200, 50)).tolist()
    seconds = []
    for block in rows:  # of the processor, and the best block counts: the others measure what else the machine does
        start = time.process_time()
        for batch in block:
            data.collator(data.train.__getitems__(batch))
        seconds.append((time.process_time() - start) / len(block))
    assert min(seconds) < 2e-4


def test_a_long_training_set_costs_no_memory() -> None:
    data = prepared(train_examples=10**15).train
    assert len(data) == 10**15
    assert data[10**15 - 1]["inputs"].shape == (50,)


def test_the_accuracy_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(97, 2)), generator.integers(0, 2, 97)
    data = prepared()
    expected = accuracy_score(labels, logits.argmax(-1))
    for predictions in (logits, (logits, np.zeros(3))):
        metrics = data.compute_metrics(EvalPrediction(predictions=predictions, label_ids=labels))
        assert metrics == {"accuracy": pytest.approx(expected, abs=1e-12)}


def test_the_network_of_the_paper_is_built_with_its_sizes() -> None:
    task = Parity()
    model = task.build_model({"architecture": "parity_mlp", "config": {"width": 32}}, prepared())
    assert (model.config.input_size, model.config.width, model.config.num_labels) == (50, 32, 2)


def test_gpt2_reads_no_padding_and_drops_nothing_out() -> None:
    task = Parity(d=12, k=2, inputs="tokens")
    data = task.prepare(seed=0, cache_dir=NOWHERE)
    model = task.build_model({"architecture": "gpt2", "config": {"n_head": 4}}, data).train()
    config = model.config
    assert (config.n_layer, config.n_embd, config.vocab_size, config.pad_token_id) == (2, 32, 3, 2)
    batch = data.collator(data.train.__getitems__(range(6)))
    with torch.no_grad():
        logits, again = model(**batch).logits, model(**batch).logits
        hidden = model.transformer(batch["input_ids"]).last_hidden_state
    assert torch.equal(logits, again)
    torch.testing.assert_close(logits, model.score(hidden)[:, -1], rtol=0, atol=1e-6)


def test_the_dropout_of_the_recipe_is_used() -> None:
    task = Parity(inputs="tokens", dropout=0.1)
    spec = {"architecture": "gpt2", "config": {"n_head": 2, "attn_pdrop": 0.3}}
    config = task.build_model(spec, task.prepare(seed=0, cache_dir=NOWHERE)).config
    assert (config.resid_pdrop, config.embd_pdrop, config.attn_pdrop) == (0.1, 0.1, 0.3)


@pytest.mark.parametrize(
    ("fields", "spec", "message"),
    [
        ({"inputs": "tokens"}, {"architecture": "parity_mlp"}, "task.inputs: vector"),
        ({}, {"architecture": "gpt2"}, "task.inputs: tokens"),
        ({}, {"architecture": "parity_mlp", "config": {"input_size": 10}}, "reads 10 coordinates, but task.d is 50"),
        ({"inputs": "tokens"}, {"architecture": "gpt2", "config": {"n_positions": 20}}, "reads 20 coordinates"),
        ({}, {"architecture": "parity_mlp", "config": {"num_labels": 3}}, "2 classes, the model has 3"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(fields: dict[str, Any], spec: dict[str, Any], message: str) -> None:
    task = Parity(**fields)
    with pytest.raises(ValueError, match=message):
        task.build_model(spec, task.prepare(seed=0, cache_dir=NOWHERE))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"k": 51}, "1 to d = 50"),
        ({"k": 0}, "1 to d = 50"),
        ({"inputs": "text"}, "'vector' or 'tokens'"),
        ({"validation_examples": 0}, "at least 1 each"),
        ({"dropout": 1.0}, r"rate in \[0, 1\)"),
        ({"dd": 5}, "Did you mean `d`|unknown key"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TASKS.build({"name": "parity", **fields}, path="task")


def test_other_data_has_another_fingerprint() -> None:
    base = Parity()
    prints = {
        task.prepare(seed=seed, cache_dir=NOWHERE).fingerprint
        for task, seed in ((base, 0), (base, 1), (replace(base, k=3), 0), (replace(base, data_seed=1), 0))
    }
    assert len(prints) == 3
