"""Cutout: a blank square in each image (DeVries and Taylor 2017, arXiv 1708.04552)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from hf_distill.reading.signals import Head
from hf_distill.views.base import EXAMPLE_HEADS, VIEWS, View, ViewContext
from hf_distill.views.images import pixels_of


@VIEWS.register("cutout")
@dataclass(frozen=True, kw_only=True)
class Cutout(View):
    """A square of each image is set to 0, the mean of normalised pixels.

    It is centred anywhere in its image, so that it may be cut off at the border; each image has a square of its own.

    Shapes: pixel_values (B, C, height, width) -> the same.
    Raises: ValueError where the batch has no images, or `size` is below 1.
    Source: DeVries and Taylor 2017; in distillation Wang et al. 2020 (arXiv 2012.02909), size 16 of 32.
    """

    papers: ClassVar[tuple[str, ...]] = ("1708.04552", "2012.02909")
    heads: ClassVar[frozenset[Head]] = EXAMPLE_HEADS

    size: int = field(default=16, metadata={"help": "side of the square in pixels; 16 of 32 is published"})

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"cutout: `size` must be at least 1 pixel, got {self.size}")

    def problem(self, batch: Mapping[str, Any], context: ViewContext) -> str | None:
        """Return None: every image has pixels to be blanked."""
        pixels_of(batch, view="cutout")
        return None

    def augment(self, batch: Mapping[str, Any], context: ViewContext) -> dict[str, Any]:
        """Return the images with a blank square each.

        Raises:
            ValueError: The batch has no images.
        """
        pixels = pixels_of(batch, view="cutout")
        inside = [self._inside(len(pixels), size).to(pixels.device) for size in pixels.shape[2:]]
        square = inside[0][:, None, :, None] & inside[1][:, None, None, :]
        return {**batch, "pixel_values": pixels.masked_fill(square, 0.0)}

    def _inside(self, examples: int, size: int) -> torch.Tensor:
        """Draw which of `size` rows or columns belong to each image's square. Shapes: (B, size), bool."""
        start = torch.randint(size, (examples, 1)) - self.size // 2
        positions = torch.arange(size)
        return (positions >= start) & (positions < start + self.size)
