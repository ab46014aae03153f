"""Batches that views are made of, and every registered view with a batch that it changes."""

from __future__ import annotations

from typing import Any

import torch
from builders import HEADS, VOCABULARY, examples
from torch import Tensor

from hf_distill.views import VIEWS, TokenIds, View, ViewContext

SPECIAL = (0, 1, 2)
IDS = TokenIds(VOCABULARY, SPECIAL)
PROMPT = 3
FIELDS: dict[str, dict[str, Any]] = {"cutout": {"size": 6}, "token_replacement": {"rate": 0.5}}
IMAGES = ("mixup", "cutmix", "cutout")


def view_of(name: str, **fields: Any) -> View:
    return VIEWS.build({"name": name, **FIELDS.get(name, {}), **fields}, path="views")


def text_batch(head: str, *, count: int = 6, seed: int = 0) -> dict[str, Tensor]:
    """Texts of unequal lengths that begin with a special token; of causal texts the first tokens are a prompt."""
    items = examples(head, count=count, seed=seed)
    batch = {key: torch.stack([item[key] for item in items]) for key in items[0]}
    batch["input_ids"][:, 0] = 1
    if head == "causal_lm":
        batch["labels"][:, :PROMPT] = -100
    return batch


def pixel_batch(*, count: int = 6, size: int = 8) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(count, 3, size, size + 2, generator=generator)
    return {"pixel_values": pixels, "labels": torch.arange(count) % 3}


def batch_for(name: str, head: str) -> dict[str, Tensor]:
    if name in IMAGES:
        batch = pixel_batch()
        return {**batch, "labels": torch.rand(6)} if head == "regression" else batch
    return text_batch(head)


CASES = [(name, head) for name in VIEWS for head in HEADS if head in VIEWS.get(name).heads]


def context_of(head: str) -> ViewContext:
    return ViewContext(head, IDS)  # type: ignore[arg-type]
