"""Invariant 2: EOS is trained where it is the padding token, the side of padding does not matter, and 0 is not NaN."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import distill_trainer, examples, flat_weights, tiny_model
from torch.utils.data import default_collate

Batch = dict[str, torch.Tensor]

IGNORED = -100
EOS = 0  # of the tiny GPT-2, and what its texts are padded with
TEXTS = [[5, 6, 7, 8, 9, EOS], [11, 12, EOS], [20, 21, 22, 23, 24, 25, 26, EOS]]
MASKABLE_HEADS = ("classification", "masked_lm", "causal_lm")


def padded(texts: list[list[int]], side: str, *, length: int = 10) -> Batch:
    """A batch of texts that end with EOS, padded with EOS; only the padding's labels are ignored."""
    rows: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
    for text in texts:
        columns = ("input_ids", text, EOS), ("attention_mask", [1] * len(text), 0), ("labels", text, IGNORED)
        for key, values, pad in columns:
            padding = [pad] * (length - len(text))
            rows[key].append(padding + values if side == "left" else values + padding)
    return {key: torch.tensor(values) for key, values in rows.items()}


def one_step(folder: Path, head: str, batch: Batch, **overrides) -> tuple[float, torch.Tensor]:
    """Loss and update of one step on exactly this batch."""
    count = len(batch["input_ids"])
    rows = [{key: values[index] for key, values in batch.items()} for index in range(count)]
    overrides.setdefault("per_device_train_batch_size", count)
    trainer = distill_trainer(folder, head, train_dataset=rows, max_steps=1, **overrides)
    before = flat_weights(trainer.model)
    trainer.train()
    return trainer.state.log_history[0]["loss"], flat_weights(trainer.model) - before


def without_labels_of(batch: Batch, *rows: int) -> Batch:
    labels = batch["labels"].clone()
    labels[list(rows)] = IGNORED
    return {**batch, "labels": labels}


def learning_from(curriculum: str, head: str) -> dict:
    teacher = {} if curriculum == "labels" else {"teacher": tiny_model(head, seed=7)}
    return {"curriculum": curriculum, **teacher}


# ---- EOS ----


def test_a_student_learns_to_stop_although_eos_is_the_padding_token(tmp_path):
    """A mask of `labels != pad_token_id` would leave EOS out of training."""
    row = {key: values[0] for key, values in padded([[5, 6, 7, EOS]], "right").items()}
    trainer = distill_trainer(tmp_path, "causal_lm", train_dataset=[row] * 4, max_steps=40, logging_steps=40)
    assert trainer.model.config.eos_token_id == EOS
    trainer.train()
    with torch.no_grad():
        following = trainer.model.eval()(torch.tensor([[5, 6, 7]])).logits[0, -1].softmax(-1)
    assert following[EOS].item() > 0.9


def test_the_label_of_eos_counts(tmp_path):
    trainer = distill_trainer(tmp_path, "causal_lm")
    batch, model = padded(TEXTS, "right"), trainer.model.eval()
    masked = {**batch, "labels": batch["labels"].masked_fill(batch["labels"] == EOS, IGNORED)}
    with_eos, without = (trainer.compute_loss(model, one).item() for one in (batch, masked))
    assert abs(with_eos - without) > 1e-3


# ---- the side of padding ----


@pytest.mark.parametrize(
    ("curriculum", "columns"),
    [
        ("labels", ("input_ids", "attention_mask", "labels")),
        ("one_shot", ("input_ids", "attention_mask", "labels")),
        ("one_shot", ("input_ids", "attention_mask")),
    ],
)
def test_left_and_right_padding_give_the_same_loss_and_update(tmp_path, curriculum, columns):
    (left, left_update), (right, right_update) = (
        one_step(
            tmp_path / side,
            "causal_lm",
            {key: values for key, values in padded(TEXTS, side).items() if key in columns},
            **learning_from(curriculum, "causal_lm"),
        )
        for side in ("left", "right")
    )
    assert left == pytest.approx(right, rel=1e-5)
    assert left_update.norm() > 1e-3
    torch.testing.assert_close(left_update, right_update, rtol=1e-4, atol=1e-6)


def test_more_padding_changes_nothing(tmp_path):
    trainer = distill_trainer(tmp_path, "causal_lm")
    model = trainer.model.eval()
    losses = [
        trainer.compute_loss(model, padded(TEXTS, side, length=length)).item()
        for side in ("left", "right")
        for length in (8, 20)
    ]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-5)


# ---- 0 is not NaN ----


@pytest.mark.parametrize("head", MASKABLE_HEADS)
@pytest.mark.parametrize("curriculum", ["labels", "one_shot"])
def test_a_fully_masked_sample_adds_nothing(tmp_path, head, curriculum):
    whole = default_collate(examples(head, count=4))
    fewer = {key: values[:3] for key, values in whole.items()}
    teaching = learning_from(curriculum, head)
    masked_loss, masked = one_step(tmp_path / "masked", head, without_labels_of(whole, 3), **teaching)
    loss, update = one_step(tmp_path / "fewer", head, fewer, **teaching)
    assert masked_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(masked, update, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", MASKABLE_HEADS)
def test_a_sample_without_a_single_token_is_no_nan(tmp_path, head):
    """An empty text is all padding: no position is attended, and attention has nothing to normalise."""
    batch = without_labels_of(default_collate(examples(head, count=4)), 3)
    batch["attention_mask"][3] = 0
    loss, update = one_step(tmp_path, head, batch, **learning_from("one_shot", head))
    assert 0.0 < loss < 100.0
    assert update.isfinite().all()


@pytest.mark.parametrize("head", MASKABLE_HEADS)
@pytest.mark.parametrize("curriculum", ["labels", "one_shot"])
def test_a_fully_masked_window_is_zero_and_leaves_the_weights(tmp_path, head, curriculum):
    batch = without_labels_of(default_collate(examples(head, count=8)), 0, 1, 2, 3)
    window = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "train_sampling_strategy": "sequential",
    }
    loss, update = one_step(tmp_path, head, batch, **window, **learning_from(curriculum, head))
    assert loss == 0.0
    assert update.abs().max().item() == 0.0


def test_a_fully_masked_micro_batch_does_not_spoil_its_window(tmp_path):
    batch = default_collate(examples("masked_lm", count=4))
    window = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "train_sampling_strategy": "sequential",
    }
    split_loss, split = one_step(tmp_path / "split", "masked_lm", without_labels_of(batch, 2, 3), **window)
    loss, update = one_step(tmp_path / "whole", "masked_lm", {key: values[:2] for key, values in batch.items()})
    assert split_loss == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(split, update, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", MASKABLE_HEADS)
def test_evaluating_a_fully_masked_batch_is_zero(tmp_path, head):
    trainer = distill_trainer(tmp_path, head)
    batch = without_labels_of(default_collate(examples(head, count=2)), 0, 1)
    assert trainer.compute_loss(trainer.model.eval(), batch).item() == 0.0
