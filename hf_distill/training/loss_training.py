"""The part of the trainer that computes losses: the curriculum's in training, the labels' in evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from hf_distill.faults.guarded_training import GuardedTraining
from hf_distill.models.outputs import logits_of, predictions_of
from hf_distill.reading.signal_reader import Student


class LossTraining(GuardedTraining):
    """A Trainer whose loss is that of its `distillation`."""

    # The loss is divided by the items of the whole accumulation window, so the Trainer must not divide again.
    loss_is_scaled_for_ga = True

    _signature_columns: Any
    _student_arguments: frozenset[str]

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """Fetch an accumulation window and count its items on all ranks, before the first forward."""
        batches, num_items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.distillation.count_window(batches, device)
        return batches, num_items

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
        """Return the curriculum's loss in training, and in evaluation the mean loss with the labels.

        Args:
            model: The student, wrapped as Accelerate prepared it.
            inputs: One micro-batch.
            return_outputs: Also return the student's logits, for metrics.
            num_items_in_batch: Not used: `reduction.py` has the only denominators.

        Raises:
            ValueError: The batch lacks what an objective needs.
        """
        student = Student(model, self.model, self._student_arguments)
        if model.training:
            scale = self.accelerator.num_processes // self.get_tp_size()
            step = self.state.global_step
            loss, logits = self.distillation.training_loss(student, inputs, step=step, scale=scale)
            loss = self.before_backward(student, inputs, loss)
        else:
            output = student.forward(self.distillation.reader.positioned(inputs))
            logits = logits_of(output, inputs.get("attention_mask"))
            loss = self.distillation.loss.of_labels(logits, inputs)
        if not return_outputs:
            return loss
        return loss, {"loss": loss, **predictions_of(self.distillation.head, logits)}

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if self.distillation.teacher is not None:
            extra = self.distillation.teacher.forward_arguments - set(self._signature_columns)
            self._signature_columns = [*self._signature_columns, *sorted(extra)]
