"""Which weights are pruned, in which order, and that the model is its old self afterwards."""

from __future__ import annotations

import pytest
import torch
from builders import tiny_model
from PIL import Image
from torch import nn

from hf_distill.analysis.pruning_curve import plot_pruning_curve, prunable_weights, pruning_curve_info


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(2, 3)
        self.norm = nn.LayerNorm(3)
        self.output = nn.Linear(3, 2)


def importance_of(model, values=None):
    found, start = {}, 0
    for name, parameter in model.named_parameters():
        flat = torch.arange(start, start + parameter.numel(), dtype=torch.float32)
        found[name] = (flat if values is None else values[flat.long()]).view_as(parameter)
        start += parameter.numel()
    return found


def bits(model):
    return {name: parameter.detach().clone().view(torch.int32) for name, parameter in model.named_parameters()}


def zeros(model):
    return {name: int((parameter == 0).sum()) for name, parameter in model.named_parameters() if "norm" not in name}


def test_least_important_weights_over_all_layers_go_first():
    model = Net()
    # 6 embedding weights, 6 of the norm, 6 of the output, 2 biases; only the 12 weights are candidates.
    importance = importance_of(model)
    importance["output.weight"].view(-1)[:2] = -1.0
    seen = []
    info = pruning_curve_info(model, importance, lambda: seen.append(zeros(model)) or 0.5, shares=[0, 0.25, 0.5, 1])
    assert info.prunable == 12
    assert info.pruned == (0, 3, 6, 12)
    assert info.values == (0.5,) * 4
    assert [(found["words.weight"], found["output.weight"]) for found in seen] == [(0, 0), (1, 2), (4, 2), (6, 6)]
    assert all(found["output.bias"] == 0 for found in seen)


def test_pruned_are_exactly_the_smallest_values():
    model = nn.Linear(10, 10, bias=False)
    importance = {"weight": torch.rand(10, 10)}
    gone = []
    pruning_curve_info(model, importance, lambda: gone.append(model.weight == 0) or 0.0, shares=[0.37])
    assert int(gone[0].sum()) == 37
    assert importance["weight"][gone[0]].max() < importance["weight"][~gone[0]].min()


def test_weights_come_back_bit_for_bit():
    model = Net()
    model.output.weight.data.view(-1)[:2] = torch.tensor([-0.0, 1e-42])
    pointers = {name: parameter.data_ptr() for name, parameter in model.named_parameters()}
    before = bits(model)
    pruning_curve_info(model, importance_of(model), lambda: 0.0)
    after = bits(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert pointers == {name: parameter.data_ptr() for name, parameter in model.named_parameters()}


def test_weights_come_back_when_the_evaluation_fails():
    model = Net()
    before = bits(model)

    def fail():
        raise RuntimeError("out of data")

    with pytest.raises(RuntimeError, match="out of data"):
        pruning_curve_info(model, importance_of(model), fail, shares=[0.9])
    after = bits(model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_weights_without_a_finite_importance_are_never_pruned():
    model = nn.Linear(4, 1, bias=False)
    importance = {"weight": torch.tensor([[float("nan"), float("inf"), 2.0, 1.0]])}
    seen = []
    info = pruning_curve_info(
        model, importance, lambda: seen.append((model.weight != 0).tolist()) or 0, shares=[0.25, 1]
    )
    assert info.pruned == (1, 2)
    assert seen == [[[True, True, True, False]], [[True, True, False, False]]]


def test_equal_importance_goes_in_the_order_of_the_model():
    model = Net()
    importance = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    seen = []
    pruning_curve_info(model, importance, lambda: seen.append(zeros(model)) or 0.0, shares=[0.5])
    assert (seen[0]["words.weight"], seen[0]["output.weight"]) == (6, 0)


def test_linear_layers_of_gpt2_are_pruned_and_tied_weights_counted_once():
    names = prunable_weights(tiny_model("causal_lm"))
    assert "transformer.h.0.attn.c_attn.weight" in names
    assert "transformer.wte.weight" in names
    assert "lm_head.weight" not in names
    assert not any("bias" in name or "ln_" in name for name in names)


def test_pruning_half_of_a_model_changes_what_it_says():
    model = tiny_model("masked_lm").eval()
    ids = torch.arange(10).view(1, 10)
    whole = model(input_ids=ids).logits
    importance = {name: parameter.detach().abs() for name, parameter in model.named_parameters()}
    distance = lambda: (model(input_ids=ids).logits - whole).abs().mean().item()  # noqa: E731
    info = pruning_curve_info(model, importance, distance, shares=[0, 0.5, 1])
    assert info.values[0] == 0.0
    assert 0 < info.values[1] < info.values[2]


@pytest.mark.parametrize(
    ("importance", "shares", "match"),
    [
        ({}, [0.1], "has no 'weight'"),
        ({"weight": torch.zeros(3)}, [0.1], r"shape \(3,\), the weight \(2, 2\)"),
        ({"weight": torch.zeros(2, 2)}, [0.5, 0.1], "rising shares"),
        ({"weight": torch.zeros(2, 2)}, [], "rising shares"),
        ({"weight": torch.zeros(2, 2)}, [0.5, 1.1], "from 0 to 1"),
    ],
)
def test_importance_and_shares_that_do_not_fit_are_refused(importance, shares, match):
    with pytest.raises(ValueError, match=match):
        pruning_curve_info(nn.Linear(2, 2, bias=False), importance, lambda: 0.0, shares=shares)


def test_model_without_layers_to_prune_is_refused():
    with pytest.raises(ValueError, match="LayerNorm has no linear"):
        prunable_weights(nn.LayerNorm(3))


def test_picture_is_written(tmp_path):
    info = pruning_curve_info(nn.Linear(4, 4), {"weight": torch.rand(4, 4)}, lambda: 0.5)
    path = plot_pruning_curve({"labels": info, "two_shot": info}, tmp_path / "pruning.png", metric="accuracy")
    with Image.open(path) as image:
        assert image.size == (1200, 675)
        assert len(image.convert("RGB").getcolors(maxcolors=1_000_000)) > 10
