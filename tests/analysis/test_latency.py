"""Latency: the warm-up is not counted, the model is left as it was, and only what it takes is given to it."""

from __future__ import annotations

import pytest
import torch
from builders import examples, tiny_model
from torch import nn
from torch.utils.data import DataLoader

from hf_distill.analysis.latency import accepted_names, first_example, latency_info


class Slow(nn.Module):
    """Counts its calls, and works longer in the first ones."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(10, dtype=torch.bfloat16))
        self.calls: list[tuple[bool, bool]] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls.append((self.training, torch.is_grad_enabled()))
        size = 600 if len(self.calls) <= 3 else 2
        return torch.ones(size, size) @ torch.ones(size, size)


def test_warm_up_is_not_counted_and_the_model_is_as_before() -> None:
    model = Slow()
    info = latency_info(model, {"inputs": torch.zeros(4, 2), "labels": torch.zeros(4)}, warmup=3, repeats=5)
    assert model.calls == [(False, False)] * 8
    assert model.training
    assert 0 < info["low_seconds"] <= info["median_seconds"] <= info["high_seconds"]
    assert (info["examples"], info["repeats"], info["weight_bytes"], info["device"]) == (4, 5, 20, "cpu")


def test_mode_is_put_back_after_a_failure() -> None:
    model = tiny_model("classification").train()
    with pytest.raises(IndexError, match="range"):
        latency_info(model, {"input_ids": torch.full((1, 4), 10_000)}, repeats=1)
    assert model.training


def test_columns_that_the_model_does_not_take_are_left_out() -> None:
    model = tiny_model("classification")
    batch = first_example(DataLoader(examples("classification"), batch_size=4))
    info = latency_info(model, {**batch, "idx": torch.zeros(1)}, warmup=1, repeats=2)
    assert info["examples"] == 1
    assert {"input_ids", "attention_mask"} <= accepted_names(model)


@pytest.mark.parametrize(
    ("batch", "repeats", "match"),
    [({"idx": torch.zeros(1)}, 1, "no tensor that Slow takes"), ({"inputs": torch.zeros(1)}, 0, "from 1 on")],
)
def test_nothing_to_time_is_refused(batch, repeats, match) -> None:
    with pytest.raises(ValueError, match=match):
        latency_info(Slow(), batch, repeats=repeats)
