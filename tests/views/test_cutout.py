"""Cutout blanks one square in each image."""

from __future__ import annotations

import pytest
import torch
from view_cases import context_of, view_of

CONTEXT = context_of("classification")


def blank(size: int, seed: int = 0, side: int = 9, count: int = 8) -> torch.Tensor:
    """Which pixels are blank. Shapes: (B, height, width)."""
    torch.manual_seed(seed)
    pixels = view_of("cutout", size=size).augment({"pixel_values": torch.ones(count, 3, side, side + 2)}, CONTEXT)
    assert set(pixels["pixel_values"].unique().tolist()) <= {0.0, 1.0}
    return pixels["pixel_values"].eq(0.0).all(1)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_a_square_is_blank(size):
    inside = [blank(size, seed) for seed in range(30)]
    areas = torch.cat([one.flatten(1).sum(1) for one in inside])
    assert areas.max() == size * size, "whole squares away from the border"
    assert (areas >= 1).all(), "the middle of a square lies in its image"
    for one in torch.cat(inside):
        assert one.sum() == one.any(0).sum() * one.any(1).sum()
        assert one.any(0).sum() <= size and one.any(1).sum() <= size


def test_each_image_has_its_square_at_its_own_place():
    inside = blank(3)
    assert any(not torch.equal(inside[0], other) for other in inside[1:])


def test_a_square_larger_than_twice_the_image_leaves_nothing():
    assert blank(23).all()


def test_a_square_of_no_pixel_is_refused():
    with pytest.raises(ValueError, match="cutout: `size` must be at least 1 pixel, got 0"):
        view_of("cutout", size=0)
