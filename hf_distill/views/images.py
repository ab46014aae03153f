"""What the views on images share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hf_distill.views.base import batch_tensor


def pixels_of(batch: Mapping[str, Any], *, view: str) -> Tensor:
    """Return the images of a batch. Shapes: (B, C, height, width).

    Raises:
        ValueError: There are none.
    """
    pixels = batch_tensor(batch, "pixel_values", view=view, instead="for text use token_cutmix or embedding_mixup")
    if pixels.dim() != 4:
        raise ValueError(
            f"the view {view!r} needs images of shape (B, C, height, width), got {tuple(pixels.shape)}; mixup takes "
            "inputs of any shape"
        )
    return pixels
