"""Started by torchrun: extraction with a read-out a layer on two CPU processes; each rank writes where it ended."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from builders import distill_trainer, flat_weights, tiny_model
from launching import Found, assert_wrapped, save_found

from hf_distill import ProgressiveDistillTrainer

HEADS = ("masked_lm", "causal_lm", "seq2seq_lm")


def trainer_of(folder: Path, head: str, **overrides) -> ProgressiveDistillTrainer:
    """A tiny extraction: one step on each of two layers, then one on the logits; rank by rank another read-out seed
    would show, and so would a student of other weights."""
    return distill_trainer(
        folder,
        head,
        teacher=tiny_model(head, seed=7),
        **{"curriculum": {"name": "extraction", "steps": 1}, "max_steps": 3, "max_grad_norm": 0.5, **overrides},
    )


def ends(folder: Path, micro_batch: int, accumulation: int) -> Found:
    """Return what three steps over the same eight examples do to students and read-outs."""
    found = {}
    for head in HEADS:
        for layers in ("uniform", "cka"):
            trainer = trainer_of(
                folder / f"{head}-{layers}",
                head,
                curriculum={"name": "extraction", "steps": 1, "layers": layers},
                per_device_train_batch_size=micro_batch,
                gradient_accumulation_steps=accumulation,
            )
            before = flat_weights(trainer.model)
            trainer.train()
            assert_wrapped(trainer)
            extractor, key = trainer.distillation.extractor, f"{head}/{layers}"
            found[f"{key}/student"] = flat_weights(trainer.model) - before
            fresh = trainer_of(folder / "fresh", head, curriculum=trainer.args.curriculum_spec())
            if trainer.distillation.found_layers is not None:
                fresh.distillation.use_layers(trainer.distillation.found_layers, fresh.model.config)
            found[f"{key}/readouts"] = flat_weights(extractor) - flat_weights(fresh.distillation.extractor)
            found[f"{key}/losses"] = torch.tensor([e["loss"] for e in trainer.state.log_history if "loss" in e])
            found[f"{key}/layers"] = torch.tensor([list(pair) for pair in extractor.pairs])
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    results = ends(target, micro_batch=2, accumulation=2)
    with pytest.raises(ValueError, match="set ddp_find_unused_parameters: true"):
        trainer_of(target / "refused", "masked_lm", ddp_find_unused_parameters=False)
    save_found(results, target)
