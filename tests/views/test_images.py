"""What is no batch of images is refused."""

from __future__ import annotations

import pytest
import torch

from hf_distill.views.images import pixels_of


def test_images_are_found():
    pixels = torch.zeros(2, 1, 4, 4)
    assert pixels_of({"pixel_values": pixels}, view="cutout") is pixels


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4, 8, 8)])
def test_vectors_and_films_are_not_taken_for_images(shape):
    with pytest.raises(ValueError, match=r"'cutout' needs images of shape \(B, C, height, width\), got .*; mixup"):
        pixels_of({"pixel_values": torch.zeros(shape)}, view="cutout")
