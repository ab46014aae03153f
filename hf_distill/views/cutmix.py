"""CutMix: a box of another image in each image (Yun et al. 2019, arXiv 1905.04899)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from hf_distill.reading.signals import Head
from hf_distill.views.base import EXAMPLE_HEADS, VIEWS, View, ViewContext
from hf_distill.views.images import pixels_of
from hf_distill.views.mixing import ALONE, ALPHA_HELP, check_alpha, draw_partners, draw_share


@VIEWS.register("cutmix")
@dataclass(frozen=True, kw_only=True)
class CutMix(View):
    """A box of another image of the micro-batch is put into each image, at the same place.

    The box has √(1 − λ) of the image's height and width, λ ~ Beta(alpha, alpha), and is centred anywhere, so that it
    may be cut off at the border; one box a micro-batch, as in the authors' code.

    Shapes: pixel_values (B, C, height, width) -> the same.
    Raises: ValueError where the batch has no images, or `alpha` is not positive.
    Source: Yun et al. 2019; with the teacher's own target Wang et al. 2020 (arXiv 2012.02909).
    """

    papers: ClassVar[tuple[str, ...]] = ("1905.04899", "2012.02909")
    heads: ClassVar[frozenset[Head]] = EXAMPLE_HEADS

    alpha: float = field(default=1.0, metadata={"help": ALPHA_HELP})

    def __post_init__(self) -> None:
        check_alpha(self.alpha, view="cutmix")

    def problem(self, batch: Mapping[str, Any], context: ViewContext) -> str | None:
        """Return why nothing can be changed: there is one image only."""
        return ALONE if len(pixels_of(batch, view="cutmix")) < 2 else None

    def augment(self, batch: Mapping[str, Any], context: ViewContext) -> dict[str, Any]:
        """Return the images with a box of another one.

        Raises:
            ValueError: The batch has no images.
        """
        pixels = pixels_of(batch, view="cutmix")
        side = (1.0 - draw_share(self.alpha)) ** 0.5
        rows, columns = (_stretch(size, int(size * side)) for size in pixels.shape[2:])
        partners = draw_partners(len(pixels)).to(pixels.device)
        mixed = pixels.clone()
        mixed[:, :, rows, columns] = pixels[partners, :, rows, columns]
        return {**batch, "pixel_values": mixed}


def _stretch(size: int, length: int) -> slice:
    """Draw where a stretch of `length` lies in `size` positions; its middle is anywhere in them."""
    start = int(torch.randint(size, ())) - length // 2
    return slice(max(start, 0), min(max(start + length, 0), size))
