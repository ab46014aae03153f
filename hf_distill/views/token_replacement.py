"""Random tokens in the context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from hf_distill.views.base import VIEWS, View, ViewContext, batch_tensor
from hf_distill.views.token_ids import free_positions, no_free_position

_INSTEAD = "for images use cutout"


@VIEWS.register("token_replacement")
@dataclass(frozen=True, kw_only=True)
class TokenReplacement(View):
    """Each token of the context is replaced with probability `rate` by one drawn from the vocabulary.

    Only context changes: padding, special tokens and, for token heads, labelled positions stay; special tokens are
    not drawn, every other one is equally likely. Our instantiation: the source is about images.

    Shapes: input_ids (B, T) -> the same.
    Raises: ValueError where the batch has no token ids, no id can be drawn, or `rate` is no share.
    Source: after Wang et al. 2020 (arXiv 2012.02909).
    """

    papers: ClassVar[tuple[str, ...]] = ("2012.02909",)

    rate: float = field(default=0.15, metadata={"help": "share of the context that is replaced"})

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise ValueError(f"token_replacement: `rate` must be a share above 0 and at most 1, got {self.rate:g}")

    def problem(self, batch: Mapping[str, Any], context: ViewContext) -> str | None:
        """Return why nothing can be changed: no position of context."""
        ids_BT = batch_tensor(batch, "input_ids", view="token_replacement", instead=_INSTEAD)
        return no_free_position(batch, ids_BT, head=context.head, known=context.ids)

    def augment(self, batch: Mapping[str, Any], context: ViewContext) -> dict[str, Any]:
        """Return the texts with random tokens.

        Raises:
            ValueError: The batch has no token ids, or no id can be drawn.
        """
        ids_BT = batch_tensor(batch, "input_ids", view="token_replacement", instead=_INSTEAD)
        chosen_BT = (torch.rand(ids_BT.shape) < self.rate).to(ids_BT.device)
        drawn_BT = context.ids.draw(ids_BT.shape).to(ids_BT)
        free_BT = free_positions(batch, ids_BT, head=context.head, known=context.ids)
        return {**batch, "input_ids": torch.where(chosen_BT & free_BT, drawn_BT, ids_BT)}
