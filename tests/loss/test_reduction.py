"""The only denominators: what is counted over a window, and that nothing is divided by zero."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_distill.loss.reduction import UNITS, count_items, denominators, examples_are_tokens, reduce_values
from hf_distill.reading.signals import IGNORE_INDEX, select_rows

X = IGNORE_INDEX
HEADS = ("classification", "regression", "masked_lm", "causal_lm")


def counts_of(head: str, *batches: dict[str, torch.Tensor]) -> dict[str, int]:
    return dict(zip(UNITS, count_items(batches, head).tolist(), strict=True))


def token_batch(labels: list[list[int]], mask: list[list[int]]) -> dict[str, torch.Tensor]:
    labels_BT = torch.tensor(labels)
    return {"input_ids": labels_BT.clamp(min=0), "attention_mask": torch.tensor(mask), "labels": labels_BT}


def test_a_window_is_counted_over_all_its_micro_batches():
    one = token_batch([[4, X, 5]], [[1, 1, 1]])
    two = token_batch([[X, X, 6], [X, X, X]], [[1, 1, 1], [1, 0, 0]])
    assert counts_of("masked_lm", one, two) == {"label": 3, "token": 7, "example": 3, "batch": 2}


def test_a_causal_window_does_not_count_the_first_label():
    batch = token_batch([[4, 5, 6, X]], [[1, 1, 1, 0]])
    assert counts_of("causal_lm", batch)["label"] == 2


@pytest.mark.parametrize("head", ["classification", "regression"])
def test_examples_without_labels_count_one_each(head):
    batch = {"input_ids": torch.ones(3, 5), "attention_mask": torch.ones(3, 5)}
    assert counts_of(head, batch) == {"label": 3, "token": 15, "example": 3, "batch": 1}


def test_a_masked_class_label_does_not_count():
    assert counts_of("classification", {"inputs": torch.ones(3, 5), "labels": torch.tensor([0, X, 2])}) == {
        "label": 2,
        "token": 3,
        "example": 3,
        "batch": 1,
    }


def test_positions_of_an_image_are_counted_before_a_layer_says_how_many():
    images = {"pixel_values": torch.ones(3, 1, 8, 8), "labels": torch.tensor([0, 1, 2])}
    assert counts_of("classification", images) == {"label": 3, "token": 3, "example": 3, "batch": 1}
    assert examples_are_tokens(images) and examples_are_tokens({"inputs": torch.ones(3, 5)})
    assert not examples_are_tokens({"input_ids": torch.ones(3, 5)})
    assert not examples_are_tokens({"inputs_embeds": torch.ones(3, 5, 2), "attention_mask": torch.ones(3, 5)})


def test_an_empty_window_counts_nothing():
    assert count_items([], "masked_lm").tolist() == [0, 0, 0, 0]


def test_a_batch_that_does_not_say_what_counts_is_refused_before_the_forward():
    with pytest.raises(ValueError, match="needs `labels` or an `attention_mask`"):
        count_items([{"input_ids": torch.ones(1, 3)}], "masked_lm")


@settings(derandomize=True, deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), head=st.sampled_from(HEADS), labelled=st.booleans())
def test_the_denominator_counts_the_rows_that_are_compared(seed, head, labelled):
    """Two masks that disagree would rescale the loss without anybody noticing."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(3, 6, generator=generator).sort(dim=-1, descending=bool(seed % 2)).values > 0.4
    batch = {"input_ids": torch.ones(3, 6, dtype=torch.long), "attention_mask": mask.long()}
    if labelled:
        shape = (3, 6) if head.endswith("lm") else (3,)
        batch["labels"] = torch.randint(0, 9, shape, generator=generator)
        if head != "regression":
            batch["labels"][torch.rand(shape, generator=generator) < 0.3] = X
    logits = torch.zeros(3, 6, 2) if head.endswith("lm") else torch.zeros(3, 2)
    assert counts_of(head, batch)["label"] == len(select_rows(head, batch).of(logits))


def test_a_window_without_labels_gives_zero_and_not_nan():
    made = denominators(torch.tensor([0, 0, 0, 0]))
    values = torch.zeros(0, requires_grad=True)
    loss = reduce_values(values, made["label"])
    loss.backward()
    assert loss.item() == 0.0
    assert values.grad.shape == (0,)


def test_each_unit_gets_its_own_count():
    made = denominators(torch.tensor([3, 7, 5, 2]))
    assert {unit: value.item() for unit, value in made.items()} == {
        "label": 3.0,
        "token": 7.0,
        "example": 5.0,
        "batch": 2.0,
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sum_keeps_the_precision_of_its_values(dtype):
    reduced = reduce_values(torch.tensor([1.0, 2.0], dtype=dtype), torch.tensor(4.0))
    assert reduced.dtype == dtype
    assert reduced.item() == 0.75


@settings(derandomize=True, deadline=None, max_examples=30)
@given(values=st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=12), cut=st.integers(0, 12))
def test_the_shares_of_two_micro_batches_add_up_to_the_whole(values, cut):
    whole, denominator = torch.tensor(values, dtype=torch.float64), torch.tensor(float(len(values)))
    parts = reduce_values(whole[:cut], denominator) + reduce_values(whole[cut:], denominator)
    assert parts.item() == pytest.approx(whole.mean().item(), abs=1e-12)
