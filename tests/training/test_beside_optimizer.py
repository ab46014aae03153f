"""An optimizer beside the engine's: steps, forgets and resumes as the student's would."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hf_distill.training.beside_optimizer import BesideOptimizer, clip_together

ADAM = {"lr": 0.5, "betas": (0.9, 0.99), "eps": 1e-8}


def parameters() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(3, generator=generator)) for _ in range(2)]


def with_gradients(values: list[nn.Parameter], seed: int) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    for value in values:
        value.grad = torch.randn(3, generator=generator)
    return values


def optimizer_of(values: list[nn.Parameter]) -> BesideOptimizer:
    return BesideOptimizer([(values[:1], 1.0), (values[1:], 4.0)], torch.optim.AdamW, {**ADAM, "weight_decay": 0.1})


def test_a_step_is_that_of_groups_in_the_students_optimizer():
    ours, theirs = parameters(), parameters()
    groups = [{"params": theirs[:1], "lr": 0.01}, {"params": theirs[1:], "lr": 0.04}]
    beside, reference = optimizer_of(ours), torch.optim.AdamW(groups, **ADAM, weight_decay=0.0)
    for seed in (1, 2):
        with_gradients(ours, seed), with_gradients(theirs, seed)
        beside.step(0.01)
        reference.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("forgets", [False, True])
def test_a_resumed_optimizer_goes_on_and_a_reset_one_begins_anew(tmp_path, forgets):
    ours = with_gradients(parameters(), 1)
    beside = optimizer_of(ours)
    beside.step(0.01)
    if forgets:
        beside.forget()
    else:
        beside.save(tmp_path)
    copies = [nn.Parameter(value.detach().clone()) for value in ours]
    other = optimizer_of(copies)
    if not forgets:
        other.load(tmp_path)
    for optimizer, values in ((beside, ours), (other, copies)):
        with_gradients(values, 2)
        optimizer.step(0.01)
    assert all(torch.equal(one, two) for one, two in zip(ours, copies, strict=True))


def test_a_checkpoint_of_another_engine_is_refused(tmp_path):
    with pytest.raises(ValueError, match="resume it with the launch configuration"):
        optimizer_of(parameters()).load(tmp_path)


@pytest.mark.parametrize("settings", [{"optimizer_dict": {}}, {"params": []}])
def test_an_optimizer_of_one_models_parameters_is_refused(settings):
    with pytest.raises(ValueError, match="choose a usual `optim`"):
        BesideOptimizer([(parameters(), 1.0)], torch.optim.SGD, settings)


@pytest.mark.parametrize("most", [0.1, 100.0])
def test_gradients_are_clipped_by_the_norm_of_all(most):
    ours, theirs = with_gradients(parameters(), 1), with_gradients(parameters(), 1)
    norm = clip_together(ours[:1], ours[1:], most)
    expected = nn.utils.clip_grad_norm_(theirs, most)
    torch.testing.assert_close(norm, expected, rtol=1e-6, atol=0)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-6, atol=0)
