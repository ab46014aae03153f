"""Mixup: two examples interpolated (Zhang et al. 2018, arXiv 1710.09412)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from hf_distill.reading.signals import Head
from hf_distill.views.base import EXAMPLE_HEADS, VIEWS, View, ViewContext
from hf_distill.views.mixing import ALONE, ALPHA_HELP, check_alpha, draw_partners, draw_share

_KEPT = ("labels", "attention_mask")


@VIEWS.register("mixup")
@dataclass(frozen=True, kw_only=True)
class Mixup(View):
    """λ·x + (1 − λ)·x' for all inputs that are floating-point numbers: images, vectors.

    One λ ~ Beta(alpha, alpha) a micro-batch; x' is another example of it. The target is what the teacher says of the
    mixed input, never a mix of labels or of the teacher's answers.

    Shapes: each input (B, ...) -> (B, ...).
    Raises: ValueError where the batch has no such input, or `alpha` is not positive.
    Source: Zhang et al. 2018; with the teacher's own target Wang et al. 2020 (arXiv 2012.02909), alpha = 1.
    """

    papers: ClassVar[tuple[str, ...]] = ("1710.09412", "2012.02909")
    heads: ClassVar[frozenset[Head]] = EXAMPLE_HEADS

    alpha: float = field(default=1.0, metadata={"help": ALPHA_HELP})

    def __post_init__(self) -> None:
        check_alpha(self.alpha, view="mixup")

    def problem(self, batch: Mapping[str, Any], context: ViewContext) -> str | None:
        """Return why nothing can be changed: there is one example only."""
        return ALONE if len(next(iter(_numbers(batch).values()))) < 2 else None

    def augment(self, batch: Mapping[str, Any], context: ViewContext) -> dict[str, Any]:
        """Return the interpolated batch.

        Raises:
            ValueError: The batch has no floating-point input.
        """
        numbers, share = _numbers(batch), draw_share(self.alpha)
        partners = draw_partners(len(next(iter(numbers.values()))))
        mixed = {key: value.lerp(value[partners.to(value.device)], 1.0 - share) for key, value in numbers.items()}
        return {**batch, **mixed}


def _numbers(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    found = {
        key: value
        for key, value in batch.items()
        if isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 0 and key not in _KEPT
    }
    if not found:
        raise ValueError(
            f"mixup interpolates inputs that are numbers, but the batch has {sorted(batch)} and none of them is; for "
            "token ids use embedding_mixup"
        )
    return found
