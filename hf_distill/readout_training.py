"""Training of the extraction curriculum's read-outs beside the student, with transformers' Trainer.

They are no part of the student: they have a parameter group of their own, are averaged over ranks, clipped together
with the student, saved in checkpoints, and absent from what is exported.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset
from transformers import Trainer

from hf_distill.curricula import Extraction
from hf_distill.distillation import Distillation


class ReadoutTraining(Trainer):
    """A Trainer that has a `distillation` and trains its read-outs, where it has any."""

    distillation: Distillation

    def readout_parameters(self) -> list[torch.nn.Parameter]:
        """Return the read-outs' parameters; none without an extraction."""
        extractor = self.distillation.extractor
        return list(extractor.parameters()) if extractor is not None else []

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Create the Trainer's optimizer, with a parameter group for the read-outs.

        Raises:
            ValueError: The engine shards parameters and knows nothing of modules outside the student.
        """
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        parameters, curriculum = self.readout_parameters(), self.distillation.curriculum
        if fresh and parameters and isinstance(curriculum, Extraction):
            if self.is_deepspeed_enabled or self.is_fsdp_enabled:
                raise ValueError(
                    "read-outs train outside the student, which DeepSpeed and FSDP do not shard; use DDP, or set "
                    "`readout: false` in the extraction"
                )
            rate = self.args.learning_rate * curriculum.readout_rate
            optimizer.add_param_group({"params": parameters, "lr": rate, "weight_decay": 0.0})
        return optimizer

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Take a training step; at the end of an accumulation window average the read-outs' gradients over ranks."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients and self.accelerator.num_processes > 1:
            for parameter in self.readout_parameters():
                if parameter.grad is not None:
                    parameter.grad = self.accelerator.reduce(parameter.grad, reduction="mean")
        return loss

    def _clip_grad_norm(self, model: torch.nn.Module) -> Any:
        parameters = self.readout_parameters()
        if not parameters:
            return super()._clip_grad_norm(model)
        return self.accelerator.clip_grad_norm_([*model.parameters(), *parameters], self.args.max_grad_norm)

    def calibrate_readouts(self) -> None:
        """Measure the targets' mean and deviation on the first training examples, the same on every rank."""
        curriculum = self.distillation.curriculum
        if isinstance(curriculum, Extraction):
            self.distillation.calibrate(self._calibration_batches(curriculum.calibration_examples))
            self.distillation.enter_stage(self.state.global_step)

    def _calibration_batches(self, count: int) -> Iterator[dict[str, Any]]:
        size = min(count, len(self.train_dataset))
        examples = Subset(self.train_dataset, range(size))
        # Neither shuffled nor sharded, and from no generator: it must not move the random state of training.
        loader = DataLoader(
            examples,
            batch_size=self.args.per_device_eval_batch_size,
            collate_fn=self.data_collator,
            generator=torch.Generator(),
        )
        for batch in loader:
            yield self._prepare_inputs(batch)

    def save_readouts(self, folder: str | Path) -> None:
        """Write the read-outs into a checkpoint, where there are any."""
        if self.distillation.extractor is not None:
            self.distillation.extractor.save(folder)

    def load_readouts(self, folder: str | Path) -> None:
        """Read the read-outs from a checkpoint, where there are any."""
        if self.distillation.extractor is not None:
            self.distillation.extractor.load(folder)
