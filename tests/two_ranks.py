"""Started by torchrun: one optimizer step of every head on two CPU processes; rank 0 writes the updates."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from builders import HEADS, distill_trainer, flat_weights, tiny_model
from torch.nn.parallel import DistributedDataParallel

# By label; layers alone leave the head without a part in the loss, and projectors are no part of the student.
CURRICULA = {
    "labels": "labels",
    "one_shot": "one_shot",
    "layers": {
        "name": "one_shot",
        "objectives": [{"name": "hidden_mse", "projector": "linear", "layers": [[1, 2]]}, {"name": "relation_kl"}],
    },
}


def trained(trainer) -> torch.Tensor:
    """Return the student's weights and those of what is trained beside it."""
    beside = [parameter.detach().flatten().double() for parameter in trainer.readout_parameters()]
    return torch.cat([flat_weights(trainer.model), *beside])


def updates(folder: Path, micro_batch: int, accumulation: int) -> dict[str, torch.Tensor]:
    """Return the update of one step over the same eight examples for every head and target."""
    found = {}
    for head in HEADS:
        for label, curriculum in CURRICULA.items():
            trainer = distill_trainer(
                folder / f"{head}-{label}",
                head,
                curriculum=curriculum,
                teacher=tiny_model(head, seed=7) if label != "labels" else None,
                per_device_train_batch_size=micro_batch,
                gradient_accumulation_steps=accumulation,
                max_steps=1,
                learning_rate=1.0,
            )
            before = trained(trainer)
            trainer.train()
            found[f"{head}/{label}"] = trained(trainer) - before
            found[f"{head}/{label}/loss"] = torch.tensor(trainer.state.log_history[0]["loss"])
            world = trainer.accelerator.num_processes
            assert world == 1 or isinstance(trainer.model_wrapped, DistributedDataParallel)
            found["world"] = torch.tensor(world)
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    results = updates(Path(sys.argv[1]), micro_batch=2, accumulation=2)
    if torch.distributed.get_rank() == 0:
        torch.save(results, Path(sys.argv[1]) / "updates.pt")
    torch.distributed.destroy_process_group()
