"""Tiny image classifiers, images and folders of them that tests share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)

SIZE = 16
CHANNELS = 3
CLASSES = 3


def resnet_config(**overrides: Any) -> ResNetConfig:
    """Stages of 4 × 4 and 2 × 2 positions, with batch norm."""
    values = {"num_channels": CHANNELS, "embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
    return ResNetConfig(**{**values, "layer_type": "basic", "num_labels": CLASSES, **overrides})


def convnext_config(**overrides: Any) -> ConvNextConfig:
    """Stages of 4 × 4 and 2 × 2 positions, without batch norm."""
    values = {"num_channels": CHANNELS, "num_stages": 2, "hidden_sizes": [4, 8], "depths": [1, 1], "patch_size": 4}
    values |= {"image_size": SIZE, "layer_scale_init_value": 1.0, "initializer_range": 0.3}
    return ConvNextConfig(**{**values, "num_labels": CLASSES, **overrides})


def vit_config(**overrides: Any) -> ViTConfig:
    """17 positions: one for the class, 4 × 4 patches."""
    values = {"num_channels": CHANNELS, "image_size": SIZE, "patch_size": 4, "hidden_size": 8, "num_hidden_layers": 2}
    values |= {"num_attention_heads": 2, "intermediate_size": 16, "initializer_range": 0.3}
    return ViTConfig(**{**values, "num_labels": CLASSES, **overrides})


MAKERS: dict[str, Any] = {
    "resnet": (resnet_config, ResNetForImageClassification),
    "convnext": (convnext_config, ConvNextForImageClassification),
    "vit": (vit_config, ViTForImageClassification),
}


def image_model(name: str, *, seed: int = 0, **overrides: Any) -> PreTrainedModel:
    """Build a tiny image classifier with fresh weights."""
    config_of, model_class = MAKERS[name]
    torch.manual_seed(seed)
    return model_class(config_of(**overrides))


def image_examples(*, count: int = 8, seed: int = 0, size: int = SIZE) -> list[dict[str, Tensor]]:
    """Make images of noise with a label each, as a collator-free data set."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "pixel_values": torch.randn(CHANNELS, size, size, generator=generator),
            "labels": torch.tensor(index % CLASSES),
        }
        for index in range(count)
    ]


def image_batch(*, count: int = 4, seed: int = 0, size: int = SIZE) -> dict[str, Tensor]:
    """Make a batch of images without labels."""
    return {
        "pixel_values": torch.stack([row["pixel_values"] for row in image_examples(count=count, seed=seed, size=size)])
    }
