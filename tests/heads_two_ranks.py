"""One step of each head with positions, padded to its micro-batch, with labels and a teacher; on one rank or two.

Started by torchrun, this file takes the step on two CPU processes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from builders import distill_trainer, examples, tiny_model
from launching import Found, save_found
from seq2seq_models import tiny_seq2seq
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel
from updates import update_of

from hf_distill import ProgressiveDistillTrainer
from hf_distill.reading.signals import IGNORE_INDEX

CURRICULUM = {"name": "one_shot", "label_mix": 0.3, "temperature": 2.0}
BEHIND = {"labels": IGNORE_INDEX}
HEADS = {
    "token_classification": "token_classification",
    "question_answering": "question_answering",
    "t5": "seq2seq_lm",
    "marian": "seq2seq_lm",
    "bart": "seq2seq_lm",
}
"""The kind of head of each model."""


def model_of(name: str, *, seed: int, wide: bool = False, **overrides: Any) -> PreTrainedModel:
    if HEADS[name] == "seq2seq_lm":
        return tiny_seq2seq(name, seed=seed, width=32 if wide else 16, **overrides)
    return tiny_model(HEADS[name], seed=seed, hidden_size=32 if wide else 16, **overrides)


def unpadded(name: str, *, count: int = 8) -> list[dict[str, Tensor]]:
    """Examples of unequal lengths without padding."""
    cut = []
    for item in examples(HEADS[name], count=count):
        used = int(item["attention_mask"].sum())
        one = {key: value[:used] if value.dim() else value for key, value in item.items()}
        if HEADS[name] == "seq2seq_lm":
            one["labels"] = item["labels"][item["labels"] != IGNORE_INDEX]
        cut.append(one)
    return cut


def collate(items: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Pad to the longest of a micro-batch, inputs and labels each to their own."""
    return {
        key: pad_sequence([item[key] for item in items], batch_first=True, padding_value=BEHIND.get(key, 0))
        if items[0][key].dim()
        else torch.stack([item[key] for item in items])
        for key in items[0]
    }


def trainer_of(name: str, folder: Path, *, micro_batch: int, accumulation: int) -> ProgressiveDistillTrainer:
    return distill_trainer(
        folder,
        model=model_of(name, seed=1),
        teacher=model_of(name, seed=7, wide=True),
        curriculum=CURRICULUM,
        train_dataset=unpadded(name),
        data_collator=collate,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        learning_rate=1.0,
    )


def step_of(name: str, folder: Path, *, micro_batch: int, accumulation: int) -> Found:
    """Take the step; return what it did to the weights, and the loss that is logged."""
    trainer = trainer_of(name, folder, micro_batch=micro_batch, accumulation=accumulation)
    update = update_of(trainer)
    return {"update": update, "loss": torch.tensor(trainer.state.log_history[0]["loss"])}


def on_two_ranks(folder: Path) -> Found:
    found = {}
    for name in HEADS:
        step = step_of(name, folder / name, micro_batch=2, accumulation=2)
        found.update({f"{name}/{key}": value for key, value in step.items()})
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    save_found(on_two_ranks(target), target)
