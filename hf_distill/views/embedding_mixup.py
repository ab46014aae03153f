"""Mixup of texts in embedding space, each model with its own embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from hf_distill.models.compatibility import unwrap_peft
from hf_distill.reading.signals import Head
from hf_distill.views.base import ALL_HEADS, VIEWS, ModelOfView, View, ViewContext, batch_tensor
from hf_distill.views.mixing import ALONE, ALPHA_HELP, check_alpha, draw_partners, draw_share
from hf_distill.views.token_ids import attended_positions

PARTNER_KEY = "partner_input_ids"
SHARE_KEY = "own_share"
_INSTEAD = "for images and vectors use mixup"


@VIEWS.register("embedding_mixup")
@dataclass(frozen=True, kw_only=True)
class EmbeddingMixup(View):
    """λ·e(x) + (1 − λ)·e(x') of the embeddings of two texts, given to each model as its `inputs_embeds`.

    The student mixes its own embeddings and the teacher its own, with one λ ~ Beta(alpha, alpha) a micro-batch and
    the same pairs of texts, so that they need not have one width. Where only one of the two texts is attended, the
    row keeps its own embedding; its mask, labels and counted positions are its own throughout. Our instantiation: the
    source is about images.

    Shapes: input_ids (B, T) -> inputs_embeds (B, T, width of the model).
    Raises: ValueError where the batch has no token ids, a model takes no `inputs_embeds`, or `alpha` is not positive.
    Source: after Zhang et al. 2018 (arXiv 1710.09412) and Wang et al. 2020 (arXiv 2012.02909).
    """

    papers: ClassVar[tuple[str, ...]] = ("1710.09412", "2012.02909")
    # Some encoders of sequence-to-sequence models scale embeddings that they look up, and not those they are given.
    heads: ClassVar[frozenset[Head]] = ALL_HEADS - {"seq2seq_lm"}
    needs: ClassVar[frozenset[str]] = frozenset({"teacher.live", "teacher.embeddings"})
    per_model: ClassVar[bool] = True

    alpha: float = field(default=1.0, metadata={"help": ALPHA_HELP})

    def __post_init__(self) -> None:
        check_alpha(self.alpha, view="embedding_mixup")

    def problem(self, batch: Mapping[str, Any], context: ViewContext) -> str | None:
        """Return why nothing can be changed: there is one text only."""
        ids_BT = batch_tensor(batch, "input_ids", view="embedding_mixup", instead=_INSTEAD)
        return ALONE if len(ids_BT) < 2 else None

    def augment(self, batch: Mapping[str, Any], context: ViewContext) -> dict[str, Any]:
        """Return the batch with each text's partner and its own share at each position.

        Raises:
            ValueError: The batch has no token ids.
        """
        ids_BT = batch_tensor(batch, "input_ids", view="embedding_mixup", instead=_INSTEAD)
        share, partners = draw_share(self.alpha), draw_partners(len(ids_BT)).to(ids_BT.device)
        attended_BT = attended_positions(batch, ids_BT)
        both_BT = attended_BT & attended_BT[partners]
        share_BT = torch.ones(ids_BT.shape, device=ids_BT.device).masked_fill(both_BT, share)
        return {**batch, PARTNER_KEY: ids_BT[partners], SHARE_KEY: share_BT}

    def inputs_for(self, batch: Mapping[str, Any], seen_by: ModelOfView) -> dict[str, Any]:
        """Return the batch with the model's own mixed embeddings instead of token ids.

        Raises:
            ValueError: The model takes none.
        """
        if "inputs_embeds" not in seen_by.accepted:
            raise ValueError(
                f"embedding_mixup hands embeddings to the {seen_by.role}, but {type(seen_by.model).__name__} takes no "
                "`inputs_embeds`; use token_cutmix, which stays with token ids"
            )
        embed = unwrap_peft(seen_by.model).get_input_embeddings()
        own, partner = embed(batch["input_ids"]), embed(batch[PARTNER_KEY])
        mixed = partner.lerp(own, batch[SHARE_KEY].unsqueeze(-1).to(own.dtype))
        kept = {key: value for key, value in batch.items() if key not in ("input_ids", PARTNER_KEY, SHARE_KEY)}
        return {**kept, "inputs_embeds": mixed}
