"""CutMix of texts in id space: a span of another text in the context."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from hf_distill.views.base import VIEWS, View, ViewContext, batch_tensor
from hf_distill.views.mixing import ALONE, ALPHA_HELP, check_alpha, draw_partners, draw_share
from hf_distill.views.token_ids import attended_positions, free_positions, no_free_position

_INSTEAD = "for images use cutmix"


@VIEWS.register("token_cutmix")
@dataclass(frozen=True, kw_only=True)
class TokenCutMix(View):
    """A span of another text of the micro-batch takes the place of the context at the same positions.

    The span is a share 1 − λ of each text, λ ~ Beta(alpha, alpha), at one relative place in all of them; both are
    drawn once a micro-batch. Only context changes: padding, special tokens and, for token heads, labelled positions
    stay, and what the other text has of those is not brought in. So every label is still asked for, in another
    context, and the teacher says what to expect there. Our instantiation: the source is about images.

    Shapes: input_ids (B, T) -> the same.
    Raises: ValueError where the batch has no token ids, or `alpha` is not positive.
    Source: after Yun et al. 2019 (arXiv 1905.04899) and Wang et al. 2020 (arXiv 2012.02909).
    """

    papers: ClassVar[tuple[str, ...]] = ("1905.04899", "2012.02909")

    alpha: float = field(default=1.0, metadata={"help": ALPHA_HELP})

    def __post_init__(self) -> None:
        check_alpha(self.alpha, view="token_cutmix")

    def problem(self, batch: Mapping[str, Any], context: ViewContext) -> str | None:
        """Return why nothing can be changed: one text only, or no position of context."""
        ids_BT = batch_tensor(batch, "input_ids", view="token_cutmix", instead=_INSTEAD)
        return ALONE if len(ids_BT) < 2 else no_free_position(batch, ids_BT, head=context.head, known=context.ids)

    def augment(self, batch: Mapping[str, Any], context: ViewContext) -> dict[str, Any]:
        """Return the texts with a span of another one.

        Raises:
            ValueError: The batch has no token ids.
        """
        ids_BT = batch_tensor(batch, "input_ids", view="token_cutmix", instead=_INSTEAD)
        share, place = draw_share(self.alpha), float(torch.rand(()))
        partners = draw_partners(len(ids_BT)).to(ids_BT.device)
        attended_BT = attended_positions(batch, ids_BT)
        # Counted over attended positions, so that padding on either side gives the same span.
        position_BT = attended_BT.cumsum(-1) - 1
        length_B1 = attended_BT.sum(-1, keepdim=True)
        span_B1 = (length_B1 * (1.0 - share)).round()
        start_B1 = ((length_B1 - span_B1 + 1) * place).floor()
        inside_BT = (position_BT >= start_B1) & (position_BT < start_B1 + span_B1)
        brought_BT = attended_BT[partners] & ~context.ids.is_special(ids_BT[partners])
        free_BT = free_positions(batch, ids_BT, head=context.head, known=context.ids)
        changed = torch.where(inside_BT & free_BT & brought_BT, ids_BT[partners], ids_BT)
        return {**batch, "input_ids": changed}
