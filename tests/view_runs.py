"""One optimizer step with a view that every split of the examples sees alike, so that their updates can be compared.

Started by torchrun, this file takes the step of every case on two CPU processes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from builders import distill_trainer, examples, tiny_model
from image_models import image_examples, image_model
from launching import Found, save_found
from torch import Tensor
from updates import update_of

# A square of more than twice the image, which is blank wherever it is centred.
BLANK = {"name": "cutout", "size": 40}
TEXT_VIEWS = ("token_cutmix", "embedding_mixup")
TEXT_HEADS = ("masked_lm", "causal_lm", "classification")


def equal_texts(head: str) -> list[dict[str, Tensor]]:
    """Eight times one text, so that mixing changes nothing, with other numbers of labels."""
    rows = examples(head, count=8, length=13)
    text, mask = rows[3]["input_ids"].clamp(min=5), torch.ones(13, dtype=torch.int64)
    made = []
    for index, row in enumerate(rows):
        labels = row["labels"]
        if head != "classification":
            labels = torch.where(torch.arange(13) % 8 <= index, text, torch.tensor(-100))
            labels[-1] = -100
        made.append({"input_ids": text, "attention_mask": mask, "labels": labels})
    return made


def step_with(folder: Path, head: str, curriculum: dict[str, Any], size: int, accumulation: int) -> Tensor:
    """Take one step on texts that are all equal, or on images for the head "images"; return the update."""
    images = head == "images"
    wide = {"n_embd": 32} if head == "causal_lm" else {"hidden_size": 32}
    trainer = distill_trainer(
        folder,
        "classification" if images else head,
        model=image_model("vit", seed=1) if images else tiny_model(head, seed=1),
        teacher=image_model("vit", seed=7) if images else tiny_model(head, seed=7, **wide),
        train_dataset=image_examples() if images else equal_texts(head),
        curriculum={"name": "one_shot", "label_mix": 0.1, **curriculum},
        train_sampling_strategy="sequential",
        per_device_train_batch_size=size,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        learning_rate=1.0,
    )
    return update_of(trainer)


def updates(folder: Path, size: int, accumulation: int) -> Found:
    """Take the step of each case."""
    found = {"images": step_with(folder, "images", {"views": BLANK}, size, accumulation)}
    for head in TEXT_HEADS:
        for name in TEXT_VIEWS:
            found[f"{head}/{name}"] = step_with(folder, head, {"views": {"name": name}}, size, accumulation)
    return found


def train_with_batch_norm(folder: Path) -> None:
    """Two forwards of a model whose running statistics DistributedDataParallel sends round before each."""
    trainer = distill_trainer(
        folder,
        "classification",
        model=image_model("resnet", seed=1),
        teacher=image_model("resnet", seed=7),
        train_dataset=image_examples(),
        curriculum={"name": "one_shot", "views": {"name": "mixup", "pick": {"by": "kl"}}},
        per_device_train_batch_size=2,
        gradient_accumulation_steps=2,
        max_steps=3,
    )
    assert update_of(trainer).norm() > 1e-4


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    train_with_batch_norm(target)
    save_found(updates(target, 2, 2), target)
