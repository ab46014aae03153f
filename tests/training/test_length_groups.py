"""Batches of about one length: short padding, the same order in a resumed run and on every rank."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from builders import distill_trainer, flat_weights, tiny_model
from ragged_texts import Collator, texts
from torch.utils.data import RandomSampler
from transformers.trainer_pt_utils import LengthGroupedSampler

from hf_distill.training.length_groups import EpochLengthGroups, repeatable

LENGTHS = [3, 9, 4, 8, 5, 7, 6, 3, 9, 4, 8, 5] * 4


def groups(*, seed: int = 0, epoch: float = 0.0) -> EpochLengthGroups:
    return repeatable(LengthGroupedSampler(4, lengths=LENGTHS), seed=seed, epoch=lambda: epoch)


def run(folder: Path, strategy: str, *, resume: str | None = None):
    """Train four epochs; return the weights and the shapes of the student's batches."""
    trainer = distill_trainer(
        folder,
        "masked_lm",
        model=tiny_model("masked_lm", seed=1, hidden_dropout_prob=0.2),
        teacher=tiny_model("masked_lm", seed=7),
        train_dataset=texts("masked_lm", mask=True),
        data_collator=Collator("right"),
        train_sampling_strategy=strategy,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=16,
        save_strategy="steps",
        save_steps=1,
    )
    shapes: list[tuple[int, ...]] = []
    trainer.model.register_forward_pre_hook(
        lambda module, inputs, named: shapes.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    trainer.train(resume_from_checkpoint=resume)
    return flat_weights(trainer.model), shapes


@pytest.mark.slow
@pytest.mark.parametrize("step", [3, 4, 6, 13], ids=lambda step: f"checkpoint {step}, 4 steps an epoch")
def test_a_resumed_run_draws_the_same_batches(tmp_path, step):
    weights, shapes = run(tmp_path, "group_by_length")
    resumed, rest = run(tmp_path, "group_by_length", resume=str(tmp_path / f"checkpoint-{step}"))
    assert rest == shapes[2 * step :]
    assert torch.equal(resumed, weights)


@pytest.mark.slow
def test_groups_pad_less_than_random_batches(tmp_path):
    padded = {
        strategy: sum(rows * length for rows, length in run(tmp_path / strategy, strategy)[1])
        for strategy in ("random", "group_by_length")
    }
    assert padded["group_by_length"] < 0.95 * padded["random"]


def test_the_order_does_not_depend_on_what_was_drawn_before():
    torch.manual_seed(1)
    first = list(groups())
    torch.rand(7)
    assert list(groups()) == first
    assert sorted(first) == list(range(len(LENGTHS)))
    assert list(groups(epoch=1.0)) != first
    assert list(groups(seed=1)) != first


def test_a_checkpoint_within_an_epoch_begins_no_other_order():
    orders = [list(groups(epoch=epoch)) for epoch in (1.0, 1.25, 2.0 - 1e-3, 2.0 - 1e-9, 2.0)]
    assert orders[0] == orders[1] == orders[2] != orders[3] == orders[4]


def test_the_order_is_not_drawn_from_the_generator_of_dropout():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    list(groups())
    assert torch.equal(torch.random.get_rng_state(), before)


def test_other_samplers_are_left_as_they_are():
    sampler = RandomSampler(LENGTHS)
    assert repeatable(sampler, seed=0, epoch=lambda: 0.0) is sampler
    assert repeatable(None, seed=0, epoch=lambda: 0.0) is None
