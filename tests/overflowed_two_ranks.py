"""Training in fp16 under DeepSpeed, of which the first steps overflow, and the same without them. Run by torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from builders import distill_config, tiny_model
from engine_cells import CLIPPED_TO, PROJECTED, data_of
from engines import assert_engine, whole_weights, zero_settings
from launching import Found, save_found

from hf_distill import ProgressiveDistillTrainer

EXAMPLES, LOW, HIGH = 4, 8, 20
"""Examples of a step; the logarithm of a loss scale that nothing overflows at, and of one that is too large."""


def trained(folder: Path, power: int, *, left_out: int = 0) -> Found:
    """Train with a projector on the examples behind those of the first steps; the first loss scale is 2 to `power`."""
    data = data_of("classification")[EXAMPLES * left_out :]
    scaling = {"enabled": True, "initial_scale_power": power, "hysteresis": 1}
    arguments = distill_config(
        folder,
        deepspeed={**zero_settings(2), "fp16": scaling},
        fp16=True,
        curriculum={"name": "one_shot", "objectives": [{"name": "forward_kl"}, PROJECTED]},
        train_sampling_strategy="sequential",
        per_device_train_batch_size=EXAMPLES // 2,
        lr_scheduler_type="constant",
        max_grad_norm=CLIPPED_TO,
        max_steps=len(data) // EXAMPLES,
    )
    trainer = ProgressiveDistillTrainer(
        model=tiny_model("classification", seed=1),
        teacher=tiny_model("classification", seed=7, hidden_size=24),
        args=arguments,
        train_dataset=data,
    )
    before = whole_weights(trainer.model)
    trainer.train()
    assert_engine(trainer, "zero2")
    after = whole_weights(trainer.model)
    found = {
        "skipped": torch.tensor(trainer.model_wrapped.skipped_steps),
        "losses": torch.tensor([entry["loss"] for entry in trainer.state.log_history if "loss" in entry]),
        "update": torch.cat([(after[name] - before[name]).flatten() for name in sorted(before)]),
        "beside": torch.cat([one.detach().flatten() for one in trainer.readout_parameters()]),
    }
    return {f"{folder.name}/{key}": value for key, value in found.items()}


def main() -> None:
    """Train both ways and hand over where they ended."""
    folder = Path(sys.argv[1])
    overflowed = trained(folder / "overflowed", HIGH)
    skipped = int(overflowed["overflowed/skipped"])
    save_found({**overflowed, **trained(folder / "calm", LOW, left_out=skipped)}, folder)


if __name__ == "__main__":
    main()
