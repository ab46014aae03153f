"""Started by torchrun: image classifiers learn on two CPU processes; each rank writes where it ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from builders import distill_trainer
from image_models import image_examples, image_model
from launching import Found, save_found
from updates import update_of

EAGER = {"attn_implementation": "eager"}
LAYERS = [{"name": "forward_kl"}, {"name": "hidden_mse", "projector": "linear", "layers": "uniform"}]
# Architecture, its student's and its teacher's settings, curriculum.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "feature maps": (
        "convnext",
        {"hidden_sizes": [6, 6]},
        {"hidden_sizes": [8, 8]},
        {"name": "one_shot", "objectives": LAYERS},
    ),
    "extraction": ("convnext", {"hidden_sizes": [6, 6]}, {"hidden_sizes": [8, 8]}, {"name": "extraction", "steps": 1}),
    "attentions": ("vit", EAGER, EAGER, {"name": "one_shot", "objectives": [{"name": "attention_kl"}]}),
    "batch norm": ("resnet", {}, {}, {"name": "one_shot", "temperature": 4.0}),
}


def ends(folder: Path, micro_batch: int, accumulation: int) -> Found:
    """Return what three steps over the same eight images do to students and what is trained beside them."""
    found = {}
    for name, (kind, ours, theirs, curriculum) in CASES.items():
        trainer = distill_trainer(
            folder / name.replace(" ", "-"),
            model=image_model(kind, seed=1, **ours),
            teacher=image_model(kind, seed=7, **theirs),
            train_dataset=image_examples(),
            curriculum=curriculum,
            learning_rate=0.01,
            max_steps=3,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=accumulation,
        )
        found[name] = update_of(trainer)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    save_found(ends(target, micro_batch=2, accumulation=2), target)
