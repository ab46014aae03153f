"""One student a teacher source, trained for three steps; started by torchrun, on two CPU processes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from builders import flat_weights
from launching import Found, assert_wrapped, save_found
from source_cases import CASES, trainer_of
from torch import nn

# A sequence's folder would be written by one rank while the other reads it; pipelines on two ranks have one.
ON_RANKS = [case for case in CASES if case.name != "sequence"]


def ends(folder: Path, *, micro_batch: int) -> Found:
    """Return where student and teacher end, and what was logged of the experts; without dropout."""
    found = {}
    for case in ON_RANKS:
        trainer = trainer_of(case, folder / case.name, per_device_train_batch_size=micro_batch, max_steps=3)
        for module in trainer.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        before = flat_weights(trainer.model)
        trainer.train()
        assert_wrapped(trainer)
        found[f"{case.name}/student"] = flat_weights(trainer.model) - before
        found[f"{case.name}/teacher"] = flat_weights(trainer.teacher.model)
        logged = trainer.state.log_history[0]
        found[f"{case.name}/shares"] = torch.tensor([v for k, v in logged.items() if k.startswith("teacher/rung_")])
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    save_found(ends(target, micro_batch=4), target)
