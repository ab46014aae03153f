"""Latency: the warm-up is not counted, the model is left as it was, and only what it takes is given to it."""

from __future__ import annotations

import pytest
import torch
from builders import bert_config, examples, tiny_model
from seq2seq_models import tiny_seq2seq
from torch import nn
from torch.utils.data import DataLoader
from transformers import BertForQuestionAnswering

from hf_distill.analysis.latency import accepted_names, first_example, latency_info, sized_batch


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


def test_a_batch_of_any_size_and_length_is_made_of_attended_tokens_only():
    batch = {
        "input_ids": torch.tensor([[0, 0, 7, 8], [5, 6, 9, 0]]),
        "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 0]]),
        "labels": torch.tensor([[-100, -100, 7, -100], [5, -100, -100, -100]]),
    }
    sized = sized_batch(batch, batch_size=3, length=5)
    assert sized["input_ids"].tolist() == [[7, 8, 7, 8, 7], [5, 6, 9, 5, 6], [7, 8, 7, 8, 7]]
    assert sized["attention_mask"].tolist() == [[1] * 5] * 3
    kept = sized_batch(batch, batch_size=1)
    assert kept["input_ids"].tolist() == [[0, 0, 7, 8]]


def test_a_sequence_to_answer_with_has_the_length_too():
    batch = {
        "input_ids": torch.tensor([[4, 5, 6]]),
        "labels": torch.tensor([[7, 8, -100, -100]]),
        "decoder_input_ids": torch.tensor([[0, 7, 8, 1]]),
        "class": torch.tensor([1]),
    }
    sized = sized_batch(batch, batch_size=2, length=4)
    assert sized["input_ids"].tolist() == [[4, 5, 6, 4]] * 2
    assert sized["decoder_input_ids"].tolist() == [[0, 7, 0, 7]] * 2
    assert sized["class"].tolist() == [1, 1]


def test_an_example_without_attended_tokens_is_taken_whole():
    batch = {"input_ids": torch.tensor([[1, 2]]), "attention_mask": torch.tensor([[0, 0]])}
    assert sized_batch(batch, batch_size=1, length=3)["input_ids"].tolist() == [[1, 2, 1]]


@pytest.mark.parametrize(
    ("batch", "match"),
    [({"pixel_values": torch.zeros(1, 3, 4, 4)}, "no length to choose"), ({"names": ["a"]}, "holds no tensor")],
)
def test_what_has_no_tokens_has_no_length(batch, match):
    with pytest.raises(ValueError, match=match):
        sized_batch(batch, batch_size=1, length=4)


def test_quartiles_lie_between_the_extremes():
    info = latency_info(Slow(), {"inputs": torch.zeros(4, 2)}, repeats=8)
    first, third = info["quartile_seconds"]
    assert info["low_seconds"] <= first <= info["median_seconds"] <= third <= info["high_seconds"]
    assert latency_info(Slow(), {"inputs": torch.zeros(4, 2)}, repeats=1)["quartile_seconds"][0] > 0


@pytest.mark.parametrize("architecture", ["t5", "marian"])
def test_a_decoder_reads_the_labels_shifted_right(architecture):
    model = tiny_seq2seq(architecture)
    batch = {"input_ids": torch.tensor([[4, 5, 6]]), "labels": torch.tensor([[7, 8, 1, -100]])}
    info = latency_info(model, batch, warmup=0, repeats=2)
    assert info["examples"] == 1
    sized = sized_batch(batch, batch_size=2, length=6)
    assert sized["labels"].tolist() == [[7, 8, 1, 7, 8, 1]] * 2
    assert latency_info(model, sized, warmup=0, repeats=1)["examples"] == 2


def test_positions_of_answers_are_not_handed_to_the_model():
    model = BertForQuestionAnswering(bert_config())
    batch = {"input_ids": torch.tensor([[4, 5, 6]]), "start_positions": torch.tensor([99])}
    assert latency_info(model, batch, warmup=0, repeats=1)["examples"] == 1
