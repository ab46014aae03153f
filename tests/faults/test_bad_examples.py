"""A bad micro-batch is traced to places in the training data and to the keys under which a cache keeps its targets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders import distill_config, examples, tiny_model
from torch.utils.data import IterableDataset

from hf_distill import LiveTeacher, ProgressiveDistillTrainer
from hf_distill.cache.key import example_keys
from hf_distill.faults.bad_examples import describe, places_of

HEAD = "classification"
DATA = examples(HEAD, count=22)


class Traced(ProgressiveDistillTrainer):
    """Compares, for each micro-batch, the places that are told with the examples that it has."""

    checked = 0
    micro_batch = 0

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        self.micro_batch = 0
        return super().get_batch_samples(*args, **kwargs)

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        places = places_of(self, self.micro_batch)
        assert places is not None
        assert torch.equal(inputs["input_ids"], torch.stack([DATA[place]["input_ids"] for place in places]))
        self.checked += 1
        self.micro_batch += 1
        return super().training_step(model, inputs, num_items_in_batch)


def traced(folder: Any, **overrides: Any) -> Traced:
    settings = {"curriculum": "labels", "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}
    args = distill_config(folder, **{**settings, "max_steps": 8, **overrides})
    return Traced(model=tiny_model(HEAD), args=args, train_dataset=DATA)


@pytest.mark.parametrize("sampling", ["random", "sequential"])
@pytest.mark.parametrize("epoch_ends_within_a_window", [True, False])
def test_places_are_those_of_the_epochs_own_order(tmp_path, sampling, epoch_ends_within_a_window):
    """22 examples are 8 micro-batches of 3, or 5 of 5."""
    size = 5 if epoch_ends_within_a_window else 3
    trainer = traced(tmp_path, train_sampling_strategy=sampling, per_device_train_batch_size=size)
    trainer.train()
    assert trainer.checked == (14 if epoch_ends_within_a_window else 16)


def test_places_are_right_after_resuming_too(tmp_path):
    saved = {"save_strategy": "steps", "save_steps": 3}
    traced(tmp_path, **saved).train()
    resumed = traced(tmp_path, **saved)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert resumed.checked == 4


class Stream(IterableDataset):
    """Examples without places."""

    def __iter__(self):
        return iter(DATA)


def test_a_stream_has_no_places_and_its_examples_keep_their_keys(tmp_path):
    teacher = tiny_model(HEAD, seed=7)
    args = distill_config(tmp_path, curriculum="one_shot", per_device_train_batch_size=4, max_steps=1)
    told = []

    class Told(ProgressiveDistillTrainer):
        """Describes its micro-batch."""

        def before_backward(self, student: Any, inputs: Any, loss: torch.Tensor) -> torch.Tensor:
            told.append((describe(self, student, inputs, 0, float("nan")), inputs))
            return super().before_backward(student, inputs, loss)

    Told(model=tiny_model(HEAD), teacher=LiveTeacher(teacher), args=args, train_dataset=Stream()).train()
    ((text, inputs),) = told
    assert "its examples are the training examples row 0 (key " in text
    read = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    for first, second in example_keys(read).tolist():
        assert f"(key {first & (2**64 - 1):016x}{second & (2**64 - 1):016x})" in text


def test_many_examples_are_counted_not_listed(tmp_path):
    told = []

    class Told(ProgressiveDistillTrainer):
        """Describes its micro-batch."""

        def before_backward(self, student: Any, inputs: Any, loss: torch.Tensor) -> torch.Tensor:
            told.append(describe(self, student, inputs, 0, float("inf")))
            return super().before_backward(student, inputs, loss)

    args = distill_config(tmp_path, curriculum="labels", per_device_train_batch_size=20, max_steps=1)
    Told(model=tiny_model(HEAD), args=args, train_dataset=DATA).train()
    assert told[0].startswith("micro-batch 0 on rank 0 has the loss inf; its examples are the training examples ")
    assert told[0].endswith(" and 12 more")
    assert told[0].count(",") == 7
