"""Sensitivity against closed forms and numpy; nothing of the model changes by being measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from builders import flat_weights, tiny_model
from PIL import Image
from torch import nn

from hf_distill.analysis.sensitivity import (
    ParameterSensitivity,
    parameter_sensitivity,
    plot_sensitivity,
    sensitivity_info,
)

WEIGHTS = torch.tensor([1.0, -2.0, 0.5, 0.0])
SLOPES = torch.tensor([[3.0, 1.0, -2.0, 9.0], [-3.0, 2.0, 2.0, 9.0]])


class Linear(nn.Module):
    """A model whose loss is linear in its weights: the first-order estimate is exact there."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(WEIGHTS.clone())
        self.idle = nn.Parameter(torch.ones(3))

    def loss(self, slopes, constant=10.0):
        return constant + self.weight @ slopes


def measure(model, batches, **settings):
    return parameter_sensitivity(model, batches, lambda slopes: model.loss(slopes, **settings))


def test_sensitivity_is_the_change_of_the_loss_when_a_weight_is_set_to_zero():
    model = Linear()
    found = measure(model, [SLOPES[0]])
    for index in range(4):
        without = Linear()
        without.weight.data[index] = 0.0
        change = abs(model.loss(SLOPES[0]) - without.loss(SLOPES[0])).item()
        assert found.raw["weight"][index].item() == pytest.approx(change, abs=1e-6)


def test_batches_are_averaged_after_the_absolute_value():
    # Slopes of opposite sign would cancel, and gradients that pile up over batches would add.
    found = measure(Linear(), SLOPES)
    torch.testing.assert_close(found.raw["weight"], torch.tensor([3.0, 3.0, 1.0, 0.0]))
    assert found.losses == pytest.approx((10 + 3 - 2 - 1, 10 - 3 - 4 + 1))
    expected = torch.tensor([3 / 10 + 3 / 4, 2 / 10 + 4 / 4, 1 / 10 + 1 / 4, 0.0]) / 2
    torch.testing.assert_close(found.normalised["weight"], expected)


def test_normalised_sensitivity_does_not_change_with_the_scale_of_the_loss():
    model = Linear()
    once = measure(model, SLOPES)
    tenfold = parameter_sensitivity(model, SLOPES, lambda slopes: 10 * model.loss(slopes))
    torch.testing.assert_close(tenfold.raw["weight"], 10 * once.raw["weight"])
    torch.testing.assert_close(tenfold.normalised["weight"], once.normalised["weight"])


def test_parameter_out_of_reach_of_the_loss_has_sensitivity_zero_and_still_counts():
    found = measure(Linear(), SLOPES)
    assert found.raw["idle"].tolist() == [0.0, 0.0, 0.0]
    assert sensitivity_info(found).parameters == 7


def test_measuring_leaves_weights_gradients_and_frozen_flags_alone():
    model = Linear()
    model.idle.requires_grad_(False)
    model.weight.grad = torch.full((4,), 7.0)
    with torch.no_grad():
        measure(model, SLOPES)
    assert torch.equal(model.weight, WEIGHTS)
    assert torch.equal(model.weight.grad, torch.full((4,), 7.0))
    assert model.weight.requires_grad
    assert not model.idle.requires_grad


def test_frozen_model_gives_the_same_numbers():
    model = Linear()
    free = measure(model, SLOPES)
    model.requires_grad_(False)
    torch.testing.assert_close(measure(model, SLOPES).raw, free.raw)


def test_flags_are_put_back_when_the_loss_fails():
    model = Linear().requires_grad_(False)
    with pytest.raises(RuntimeError, match="broken"):
        parameter_sensitivity(model, [None], lambda _: (_ for _ in ()).throw(RuntimeError("broken")))
    assert not model.weight.requires_grad


def test_tied_weights_count_once():
    model = tiny_model("causal_lm").eval()
    ids = torch.arange(12).view(1, 12)
    found = parameter_sensitivity(model, [ids], lambda batch: model(input_ids=batch, labels=batch).loss)
    assert sum(values.numel() for values in found.raw.values()) == flat_weights(model).numel()
    assert "lm_head.weight" not in found.raw


def test_numbers_are_those_of_numpy():
    rng = np.random.default_rng(0)
    values = {"a": rng.lognormal(size=(30, 5)), "b": rng.lognormal(size=50)}
    tensors = {name: torch.from_numpy(value) for name, value in values.items()}
    doubled = {name: 2 * tensor for name, tensor in tensors.items()}
    info = sensitivity_info(ParameterSensitivity(tensors, doubled, (1.0, 2.0)))
    flat = np.concatenate([value.ravel() for value in values.values()])
    ranked = np.sort(flat)[::-1]
    assert info.parameters == 200
    assert info.batches == 2
    assert info.loss == 1.5
    assert info.raw.mean == pytest.approx(flat.mean(), rel=1e-12)
    assert info.raw.deviation == pytest.approx(flat.std(), rel=1e-12)
    assert info.normalised.deviation == pytest.approx(2 * flat.std(), rel=1e-12)
    assert info.raw.top_sum == pytest.approx(ranked[:40].sum() / flat.sum(), rel=1e-12)
    assert info.raw.top_values == pytest.approx(ranked[:40].tolist())


def test_top_of_many_parameters_is_thinned_to_its_ends():
    values = torch.arange(10_000, dtype=torch.float64)
    info = sensitivity_info(ParameterSensitivity({"a": values}, {"a": values}, (1.0,)), top=0.5)
    assert len(info.raw.top_values) < 300
    assert (info.raw.top_values[0], info.raw.top_values[-1]) == (9999.0, 5000.0)


def test_batch_without_loss_adds_zeros_instead_of_nan():
    # A student of parity that is right and sure everywhere has a loss of exactly 0 in float32.
    model = nn.Linear(2, 2)
    found = parameter_sensitivity(model, [torch.zeros(1, 2)], lambda batch: model(batch).sum() * 0.0)
    info = sensitivity_info(found)
    assert info.normalised.mean == 0.0
    assert math.isnan(info.normalised.top_sum)


@pytest.mark.parametrize(
    ("batches", "constant", "match"),
    [([], 10.0, "no batch"), (SLOPES, -50.0, "batch 0 is -5"), (SLOPES, math.nan, "batch 0 is nan")],
)
def test_losses_that_cannot_be_divided_by_are_refused(batches, constant, match):
    with pytest.raises(ValueError, match=match):
        measure(Linear(), batches, constant=constant)


@pytest.mark.parametrize("top", [0.0, 1.5])
def test_impossible_top_is_refused(top):
    with pytest.raises(ValueError, match="share of the parameters"):
        sensitivity_info(measure(Linear(), SLOPES), top=top)


def test_picture_is_written(tmp_path):
    info = sensitivity_info(measure(Linear(), SLOPES), top=1.0)
    path = plot_sensitivity({"labels": info, "two_shot": info}, tmp_path / "sensitivity.png")
    with Image.open(path) as image:
        assert image.size == (1500, 780)
        assert len(image.convert("RGB").getcolors(maxcolors=1_000_000)) > 10
