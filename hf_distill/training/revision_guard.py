"""Stops training with a checkpoint, and never with another teacher, when the next revision cannot be had."""

from __future__ import annotations

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from hf_distill.distillation import Distillation
from hf_distill.teachers.retry import RevisionUnavailable


class RevisionGuard(TrainerCallback):
    """Looks at the end of each step whether the teacher of the next one is there; if not, asks to save and to stop.

    At the end of a step and not at the beginning of the next: there the Trainer saves a checkpoint from which the run
    resumes as if it had never stopped.

    Args:
        distillation: Whose stages are looked at.
    """

    def __init__(self, distillation: Distillation) -> None:
        self.distillation = distillation
        self.error: RevisionUnavailable | None = None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Wait for the revision of the next step's stage."""
        self._look(state, control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Do the same after an adaptive curriculum may have moved on."""
        self._look(state, control)

    def check(self, folder: str) -> None:
        """Raise what stopped training.

        Args:
            folder: The run's output folder, for the message.

        Raises:
            RevisionUnavailable: A revision could not be had; the checkpoint was saved.
        """
        error, self.error = self.error, None
        if error is not None:
            raise RevisionUnavailable(
                f"{error}\nTraining stopped before the first step with it and saved a checkpoint in {folder}. No "
                "revision was left out: resume once it can be had, or set `on_download_failure: wait`"
            ) from error

    def _look(self, state: TrainerState, control: TrainerControl) -> None:
        if self.error is not None or self.distillation.plan is None or state.global_step >= state.max_steps:
            return
        if not self.distillation.is_switch(state.global_step):
            return
        error = None
        try:
            self.distillation.prepare(state.global_step)
        except RevisionUnavailable as caught:
            error = caught
        if self._on_any_process(error is not None):
            self.error = error or RevisionUnavailable("another process of this run could not get its teacher revision")
            control.should_save = True
            control.should_training_stop = True

    def _on_any_process(self, failed: bool) -> bool:
        """Return whether any process failed: all must stop at the same step, or the others would wait for ever."""
        accelerator = self.distillation.accelerator
        if accelerator.num_processes == 1:
            return failed
        flag = torch.tensor(float(failed), device=accelerator.device)
        return bool(accelerator.reduce(flag, reduction="sum").item())
