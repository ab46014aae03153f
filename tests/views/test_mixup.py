"""Mixup interpolates each example with one other, all numbers of a batch by one share."""

from __future__ import annotations

import pytest
import torch
from view_cases import context_of, pixel_batch, view_of

from hf_distill.views.mixing import draw_partners, draw_share

CONTEXT = context_of("classification")


@pytest.mark.parametrize("seed", range(4))
def test_an_image_is_the_interpolation_of_two(seed):
    batch = pixel_batch()
    torch.manual_seed(seed)
    share, partners = draw_share(0.4), draw_partners(6)
    torch.manual_seed(seed)
    mixed = view_of("mixup", alpha=0.4).augment(batch, CONTEXT)["pixel_values"]
    pixels = batch["pixel_values"]
    torch.testing.assert_close(mixed, share * pixels + (1 - share) * pixels[partners], rtol=1e-5, atol=1e-6)
    assert not torch.equal(mixed, pixels)


def test_two_inputs_of_an_example_are_mixed_with_the_same_other():
    numbers = torch.randn(5, 4)
    torch.manual_seed(0)
    mixed = view_of("mixup").augment({"left": numbers, "right": 2 * numbers, "labels": torch.rand(5)}, CONTEXT)
    torch.testing.assert_close(mixed["right"], 2 * mixed["left"])


def test_whole_numbers_and_regression_labels_are_not_mixed():
    batch = {"values": torch.randn(4, 2), "kinds": torch.arange(4), "labels": torch.rand(4), "rate": torch.tensor(0.5)}
    mixed = view_of("mixup").augment(batch, CONTEXT)
    assert all(mixed[key] is batch[key] for key in ("kinds", "labels", "rate"))


def test_half_precision_is_kept():
    batch = {"pixel_values": torch.randn(4, 3, 4, 4, dtype=torch.bfloat16)}
    assert view_of("mixup").augment(batch, CONTEXT)["pixel_values"].dtype == torch.bfloat16
