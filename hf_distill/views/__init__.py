"""Augmented views: the teacher is run anew on an augmented micro-batch, and what it says there is the target."""

from __future__ import annotations

from hf_distill.views.base import VIEWS, ModelOfView, View, ViewContext
from hf_distill.views.cutmix import CutMix
from hf_distill.views.cutout import Cutout
from hf_distill.views.embedding_mixup import EmbeddingMixup
from hf_distill.views.mixup import Mixup
from hf_distill.views.stage_view import StageView
from hf_distill.views.token_cutmix import TokenCutMix
from hf_distill.views.token_ids import TokenIds, token_ids
from hf_distill.views.token_replacement import TokenReplacement

__all__ = [
    "VIEWS",
    "CutMix",
    "Cutout",
    "EmbeddingMixup",
    "Mixup",
    "ModelOfView",
    "StageView",
    "TokenCutMix",
    "TokenIds",
    "TokenReplacement",
    "View",
    "ViewContext",
    "token_ids",
]
