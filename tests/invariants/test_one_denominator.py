"""Invariant 1: how examples are split into micro-batches does not change the update."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import HEADS, distill_trainer, examples, flat_weights, tiny_model

SPLITS = [(8, 1), (2, 4), (1, 8)]


def update_of(folder: Path, head: str, micro_batch: int, accumulation: int, **overrides) -> torch.Tensor:
    trainer = distill_trainer(
        folder,
        head,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        learning_rate=1.0,
        **overrides,
    )
    before = flat_weights(trainer.model)
    trainer.train()
    return flat_weights(trainer.model) - before


def assert_same_update(one: torch.Tensor, other: torch.Tensor) -> None:
    assert one.norm() > 1e-4
    assert (other.norm() / one.norm()).item() == pytest.approx(1.0, abs=1e-5)
    assert torch.nn.functional.cosine_similarity(one, other, dim=0).item() > 0.99999


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("curriculum", ["labels", "one_shot"])
def test_accumulation_does_not_rescale_or_reweight_the_update(tmp_path, head, curriculum):
    teacher = tiny_model(head, seed=7) if curriculum == "one_shot" else None
    updates = [
        update_of(tmp_path / f"{size}x{steps}", head, size, steps, curriculum=curriculum, teacher=teacher)
        for size, steps in SPLITS
    ]
    for update in updates[1:]:
        assert_same_update(updates[0], update)


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm", "classification"])
def test_mixing_with_labels_keeps_the_update_under_accumulation(tmp_path, head):
    spec = {"name": "one_shot", "label_mix": 0.3, "temperature": 2.0}
    updates = [
        update_of(tmp_path / str(steps), head, size, steps, curriculum=spec, teacher=tiny_model(head, seed=7))
        for size, steps in SPLITS
    ]
    assert_same_update(updates[0], updates[2])


def test_a_short_last_window_is_divided_by_its_own_items(tmp_path):
    """Six examples in windows of 4: the second window has 2 examples and must not be divided by 4."""
    data = examples("classification", count=6)
    whole = distill_trainer(tmp_path / "a", train_dataset=data[4:], per_device_train_batch_size=2, max_steps=1)
    start = flat_weights(whole.model)
    whole.train()
    split = distill_trainer(
        tmp_path / "b",
        train_dataset=data[4:],
        per_device_train_batch_size=1,
        gradient_accumulation_steps=4,
        max_steps=1,
    )
    split.train()
    assert_same_update(flat_weights(whole.model) - start, flat_weights(split.model) - start)
