from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from hf_distill.reading.signals import IGNORE_INDEX
from hf_distill.tasks import MaskedLM, TaskData
from hf_distill.tasks.counter_random import CounterStream
from hf_distill.tasks.masked_lm import MaskedBlocks
from hf_distill.tasks.text_blocks import Blocks
from hf_distill.tasks.tokenizer_training import train_tokenizer

SMALL_BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture
def task(text_folder: Path) -> MaskedLM:
    tokenizer = {"train": {"kind": "wordpiece", "vocab_size": 320}}
    return MaskedLM(data={"path": str(text_folder)}, tokenizer=tokenizer, max_length=32)


@pytest.fixture
def data(task: MaskedLM, cache_dir: Path) -> TaskData:
    return task.prepare(seed=0, cache_dir=cache_dir)


def everything(dataset: Any) -> dict[str, torch.Tensor]:
    return dataset.__getitems__(range(len(dataset)))[0]


def text_of(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.where(batch["labels"] != IGNORE_INDEX, batch["labels"], batch["input_ids"])


def test_the_shares_of_masked_random_and_kept_tokens_are_right(data: TaskData) -> None:
    batch, tokenizer = everything(data.train), data.processing_class
    text, chosen = text_of(batch), batch["labels"] != IGNORE_INDEX
    ordinary = ~torch.isin(text, torch.tensor(tokenizer.all_special_ids))
    assert not (chosen & ~ordinary).any()
    count = chosen.sum().item()
    assert count / ordinary.sum().item() == pytest.approx(0.15, abs=5 * (0.15 * 0.85 / ordinary.sum().item()) ** 0.5)
    shown, hidden = batch["input_ids"][chosen], text[chosen]
    masked = (shown == tokenizer.mask_token_id).double().mean().item()
    kept = (shown == hidden).double().mean().item()
    assert masked == pytest.approx(0.8, abs=5 * (0.16 / count) ** 0.5)
    # A random token is now and then the hidden one.
    chance = 0.1 / (len(tokenizer) - 5)
    assert kept == pytest.approx(0.1 + chance, abs=5 * (0.09 / count) ** 0.5)


def test_random_tokens_are_many_and_not_special(data: TaskData) -> None:
    batch, tokenizer = everything(data.train), data.processing_class
    text = text_of(batch)
    random = batch["input_ids"][(batch["input_ids"] != text) & (batch["input_ids"] != tokenizer.mask_token_id)]
    assert not set(random.tolist()) & set(tokenizer.all_special_ids)
    assert len(set(random.tolist())) > 0.9 * (len(tokenizer) - 5)


def test_blocks_have_their_ends_and_padding_is_not_attended_to(data: TaskData) -> None:
    tokenizer = data.processing_class
    for dataset in (data.train, data.validation):
        batch = everything(dataset)
        text, used = text_of(batch), batch["attention_mask"].sum(1)
        assert (text[:, 0] == tokenizer.cls_token_id).all()
        assert (text[torch.arange(len(text)), used - 1] == tokenizer.sep_token_id).all()
        assert ((text == tokenizer.pad_token_id) == (batch["attention_mask"] == 0)).all()
        assert not (batch["labels"][batch["attention_mask"] == 0] != IGNORE_INDEX).any()
    assert used[:-1].eq(32).all()
    assert used[-1] < 32, "the held-out tail is dropped"


def test_the_held_out_masks_stay_between_evaluations_and_seeds(task: MaskedLM, cache_dir: Path) -> None:
    one, other = (task.prepare(seed=seed, cache_dir=cache_dir).validation for seed in (0, 1))
    first = everything(one)
    for again in (everything(one), everything(other)):
        assert all(torch.equal(first[name], again[name]) for name in first)
    rows = one.__getitems__([5, 3])[0]
    assert torch.equal(rows["input_ids"], first["input_ids"][[5, 3]])


def test_training_masks_differ_for_every_seed_and_copy(task: MaskedLM, cache_dir: Path) -> None:
    zero, one = (everything(task.prepare(seed=seed, cache_dir=cache_dir).train) for seed in (0, 1))
    assert torch.equal(text_of(zero), text_of(one))
    chosen, by_other_seed = zero["labels"] != IGNORE_INDEX, one["labels"] != IGNORE_INDEX
    deviation = (0.15 * 0.85 / chosen.sum().item()) ** 0.5
    # Of the tokens that one seed hides, another hides the usual share; so it is from copy to copy.
    assert by_other_seed[chosen].double().mean().item() == pytest.approx(0.15, abs=5 * deviation)
    blocks = len(chosen) // task.mask_copies
    assert torch.equal(text_of(zero)[:blocks], text_of(zero)[blocks : 2 * blocks])
    first, rest = chosen[:-blocks], chosen[blocks:]
    assert rest[first].double().mean().item() == pytest.approx(0.15, abs=5 * deviation)


def test_training_masks_are_not_those_of_the_held_out_text(data: TaskData) -> None:
    blocks = Blocks(np.full((50, 32), 40, dtype=np.int32), np.full(50, 32, dtype=np.int32))
    train, held_out = (
        everything(
            MaskedBlocks(blocks, data.processing_class, stream=CounterStream(f"masked_lm/{name}", 0), mask_rate=0.5)
        )
        for name in ("train", "validation")
    )
    assert not torch.equal(train["labels"], held_out["labels"])


def test_a_tokenizer_without_mask_is_refused(text_folder: Path) -> None:
    tokenizer = train_tokenizer(["a b c"], kind="bpe", vocab_size=300)
    tokenizer.mask_token = None
    blocks = Blocks(np.zeros((1, 8), dtype=np.int32), np.full(1, 8, dtype=np.int32))
    with pytest.raises(ValueError, match=r"no mask token.*causal_lm"):
        MaskedBlocks(blocks, tokenizer, stream=CounterStream("x", 0), mask_rate=0.5)


@pytest.mark.parametrize(
    ("fields", "message"), [({"mask_rate": 0.0}, "between 0 and 1"), ({"mask_copies": 0}, "at least 1")]
)
def test_settings_that_predict_nothing_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MaskedLM(**fields)


def test_a_byte_level_vocabulary_can_be_masked(text_folder: Path, cache_dir: Path) -> None:
    task = MaskedLM(
        data={"path": str(text_folder)}, tokenizer={"train": {"kind": "bpe", "vocab_size": 300}}, max_length=32
    )
    batch = everything(task.prepare(seed=0, cache_dir=cache_dir).validation)
    assert batch["input_ids"].shape[1] == 32
    assert (batch["labels"] != IGNORE_INDEX).any()


def train(task: MaskedLM, data: TaskData, folder: Path, *, resume: bool | str = False, steps: int = 6) -> Trainer:
    torch.manual_seed(0)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=6,
        save_steps=3,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-2,
        use_cpu=True,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=task.build_model({"architecture": "bert", "config": SMALL_BERT}, data),
        args=arguments,
        train_dataset=data.train,
        eval_dataset=data.validation,
        data_collator=data.collator,
        compute_metrics=data.compute_metrics,
        preprocess_logits_for_metrics=data.preprocess_logits_for_metrics,
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_a_resumed_run_masks_the_same_tokens(task: MaskedLM, data: TaskData, tmp_path: Path) -> None:
    whole = train(task, data, tmp_path / "run")
    resumed = train(task, data, tmp_path / "again", resume=str(tmp_path / "run" / "checkpoint-3"))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_the_trainer_measures_the_same(task: MaskedLM, data: TaskData, tmp_path: Path) -> None:
    trainer = train(task, data, tmp_path)
    measured = trainer.evaluate()
    batch = everything(data.validation)
    with torch.no_grad():
        logits = trainer.model.eval()(**{key: batch[key] for key in ("input_ids", "attention_mask")}).logits.double()
    chosen = batch["labels"] != IGNORE_INDEX
    labels = batch["labels"][chosen]
    nll = torch.nn.functional.cross_entropy(logits[chosen], labels).item()
    hits = (logits[chosen].argmax(-1) == labels).double().mean().item()
    expected = {"eval_masked_accuracy": hits, "eval_nll": nll, "eval_perplexity": np.exp(nll)}
    assert {key: measured[key] for key in expected} == pytest.approx(expected, rel=1e-5)
