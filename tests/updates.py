"""What one optimizer step does to a student, for the tests that the same examples give the same step."""

from __future__ import annotations

import torch
from builders import flat_weights
from launching import assert_wrapped
from torch import Tensor

from hf_distill import ProgressiveDistillTrainer


def trained_weights(trainer: ProgressiveDistillTrainer) -> Tensor:
    """Return the student's weights and those of what is trained beside it."""
    beside = [parameter.detach().flatten().double() for parameter in trainer.readout_parameters()]
    return torch.cat([flat_weights(trainer.model), *beside])


def update_of(trainer: ProgressiveDistillTrainer) -> Tensor:
    """Train, and return what that did to the weights."""
    before = trained_weights(trainer)
    trainer.train()
    assert_wrapped(trainer)
    return trained_weights(trainer) - before


def assert_same_update(one: Tensor, other: Tensor, *, factor: float = 1.0) -> None:
    """Check that two updates differ by the rounding of weights in float32 only, or by a factor beside."""
    assert one.norm() > 1e-4
    assert ((other - factor * one).norm() / (factor * one).norm()).item() < 1e-5
