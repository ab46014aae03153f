from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import distill_config, flat_weights
from transformers import EvalPrediction

from hf_distill import ProgressiveDistillTrainer
from hf_distill.tasks import TASKS, Pcfg, PcfgCausal, TaskData

NOWHERE = Path("unused")
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def prepared(task: Pcfg | PcfgCausal, seed: int = 0) -> TaskData:
    return task.prepare(seed=seed, cache_dir=NOWHERE)


def shown(data: Any, count: int = 200) -> set[bytes]:
    return {row.numpy().tobytes() for row in data.__getitems__(range(count))[0]["input_ids"][:, :30]}


@pytest.mark.parametrize("make", [Pcfg, PcfgCausal])
def test_training_seeds_share_no_sentences_and_all_that_is_held_out(make: Any) -> None:
    task = make(root=16)
    zero, one = prepared(task), prepared(task, seed=1)
    # Beginnings of 29 terminals repeat by chance; whole sets of 200 do not.
    assert shown(zero.train) != shown(one.train)
    assert shown(zero.validation) == shown(one.validation)
    assert shown(zero.validation) != shown(zero.train)
    assert shown(prepared(make(root=16, data_seed=1)).validation) != shown(zero.validation)


def test_the_papers_sets_have_their_sizes() -> None:
    task = Pcfg()
    data = prepared(task)
    assert (len(data.train), len(data.validation)) == (2**20, 4096)
    assert (task.mask_rate, task.attend_masked, task.root, task.positions) == (0.3, False, 22, 433)
    assert data.train[2**20 - 1]["labels"].ndim == 1


def test_every_grammar_of_the_family_can_be_used() -> None:
    for name in ("cfg3b", "cfg3f", "cfg3g", "cfg3h", "cfg3i"):
        data = prepared(TASKS.build({"name": "pcfg", "grammar": name}, path="task"))
        assert name in data.description["source"]
        assert data.train[0]["input_ids"].shape[0] > 60


def test_models_are_built_with_the_vocabulary_and_enough_positions() -> None:
    bert = Pcfg(root=16).build_model({"architecture": "bert", "config": BERT}, prepared(Pcfg(root=16)))
    assert (bert.config.vocab_size, bert.config.pad_token_id) == (8, 5)
    assert bert.config.max_position_embeddings == 73
    task = PcfgCausal(root=19, grammar="cfg3f")
    gpt2 = task.build_model(
        {"architecture": "gpt2", "config": {"n_embd": 16, "n_layer": 1, "n_head": 2}}, prepared(task)
    )
    assert (gpt2.config.vocab_size, gpt2.config.n_positions, gpt2.config.bos_token_id) == (8, 244, 3)


def test_an_untrained_model_does_not_beat_chance() -> None:
    """Chance is the share of the likeliest terminal; the loss of an untrained model is about ln 8."""
    torch.manual_seed(0)
    task = Pcfg(root=16, validation_examples=200)
    data = prepared(task)
    model = task.build_model({"architecture": "bert", "config": BERT}, data).eval()
    batch = data.validation.__getitems__(range(200))[0]
    with torch.no_grad():
        logits = model(**batch).logits
    predictions = tuple(x.numpy() for x in data.preprocess_logits_for_metrics(logits, batch["labels"]))
    metrics = data.compute_metrics(EvalPrediction(predictions=predictions, label_ids=batch["labels"].numpy()))
    labels = batch["labels"][batch["labels"] != -100]
    assert metrics["masked_accuracy"] <= np.bincount(labels).max() / len(labels) + 0.02
    assert metrics["nll"] == pytest.approx(np.log(8), abs=0.15)
    assert metrics["perplexity"] == pytest.approx(np.exp(metrics["nll"]))


def test_a_resumed_run_sees_the_sentences_of_one_that_went_through(tmp_path: Path) -> None:
    def train(folder: str, **resume: Any) -> torch.Tensor:
        task = Pcfg(root=13, train_examples=1000)
        data = prepared(task)
        torch.manual_seed(0)
        trainer = ProgressiveDistillTrainer(
            model=task.build_model({"architecture": "bert", "config": BERT}, data),
            args=distill_config(tmp_path / folder, curriculum="labels", save_strategy="steps", save_steps=2),
            train_dataset=data.train,
            data_collator=data.collator,
            processing_class=data.processing_class,
        )
        trainer.train(**resume)
        return flat_weights(trainer.model)

    through = train("through")
    again = train("again", resume_from_checkpoint=str(tmp_path / "through" / "checkpoint-2"))
    torch.testing.assert_close(again, through, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("task", "spec", "message"),
    [
        (
            Pcfg(root=16),
            {"architecture": "bert", "config": {**BERT, "vocab_size": 6}},
            "has 6 entries, the grammar's 8",
        ),
        (
            Pcfg(root=16),
            {"architecture": "bert", "config": {**BERT, "max_position_embeddings": 60}},
            "reads 60 positions, but sentences from root 16 have up to 73",
        ),
        (Pcfg(root=16), {"architecture": "gpt2"}, "no AutoModelForMaskedLM can be built from 'gpt2'"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(task: Pcfg, spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        task.build_model(spec, prepared(task))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "pcfg", "root": 23}, "23 is no non-terminal"),
        ({"name": "pcfg", "grammar": "cfg3c"}, "task.grammar.*cfg3b"),
        ({"name": "pcfg", "mask_rate": 0.0}, "share between 0 and 1"),
        ({"name": "pcfg", "validation_examples": 0}, "at least 1 each"),
        ({"name": "pcfg_causal", "level": 7}, r"0 \(every terminal\) to 6"),
        ({"name": "pcfg_causal", "root": 16, "level": 5}, r"0 \(every terminal\) to 4 .*from root 16"),
        ({"name": "pcfg_causal", "mask_rate": 0.3}, "unknown key"),
    ],
)
def test_impossible_fields_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TASKS.build(fields, path="task")


def test_other_data_has_another_fingerprint() -> None:
    base = Pcfg()
    same = [prepared(base, seed=seed).fingerprint for seed in (0, 1)]
    others = [replace(base, root=21), replace(base, attend_masked=True), replace(base, data_seed=1), PcfgCausal()]
    assert same[0] == same[1]
    assert len({same[0], *(prepared(task).fingerprint for task in others)}) == 5
