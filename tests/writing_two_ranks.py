"""Started by torchrun: five examples are written by two CPU processes, and each rank says which metrics it got."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from heads_two_ranks import collate, unpadded
from killed_seq2seq import seq2seq_trainer
from launching import Found, save_found
from transformers import EvalPrediction


def written(folder: Path) -> Found:
    """Evaluate; return what metrics were given, and the loss."""
    seen: list[EvalPrediction] = []
    data = unpadded("t5")
    trainer = seq2seq_trainer(
        folder,
        train_dataset=data,
        eval_dataset=data[:5],
        data_collator=collate,
        compute_metrics=lambda prediction: seen.append(prediction) or {},
        per_device_eval_batch_size=2,
    )
    loss = trainer.evaluate()["eval_loss"]
    sums = [int(row[row > 0].sum()) for row in seen[-1].predictions]
    labels = [int(row[row > 0].sum()) for row in seen[-1].label_ids]
    return {"written": torch.tensor(sums), "labels": torch.tensor(labels), "loss": torch.tensor(loss)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    save_found(written(target), target)
