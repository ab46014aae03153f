"""Started by torchrun: one step with three passes of every head on two CPU processes; rank 0 writes the updates."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from builders import HEADS, distill_trainer, scale_passes, tiny_model
from launching import Found, save_found
from updates import update_of


def intra_updates(folder: Path, micro_batch: int, accumulation: int) -> Found:
    """Return the update of one step over the same eight examples, without dropout and with a teacher."""
    found = {}
    for head in HEADS:
        for mode in ("loop", "repeat"):
            model = tiny_model(head, seed=1)
            scale_passes(model, passes=3, mode=mode)
            trainer = distill_trainer(
                folder / f"{head}-{mode}",
                head,
                model=model,
                curriculum={"name": "one_shot", "intra": {"passes": 3, "alpha": 5.0, "mode": mode}},
                teacher=tiny_model(head, seed=7),
                per_device_train_batch_size=micro_batch,
                gradient_accumulation_steps=accumulation,
                max_steps=1,
                learning_rate=1.0,
            )
            found[f"{head}/{mode}"] = update_of(trainer)
            assert trainer.state.log_history[0]["objective/passes"] > 1e-3
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    save_found(intra_updates(target, micro_batch=2, accumulation=2), target)
