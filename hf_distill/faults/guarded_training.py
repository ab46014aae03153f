"""Training that survives, or ends well: bad batches, pre-emption, hung ranks, full disks, too little memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType
from torch import Tensor
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_distill.config import ProgressiveDistillConfig
from hf_distill.distillation import Distillation
from hf_distill.faults.bad_batch import BatchGuard, refuse_skipping
from hf_distill.faults.earlier_attempt import remove_earlier
from hf_distill.faults.full_disk import unfinished_goes
from hf_distill.faults.hang_watch import HangWatch, limit_of
from hf_distill.faults.out_of_memory import memory_explained
from hf_distill.faults.preemption import Preempted, Preemption
from hf_distill.faults.step_flags import StepFlags
from hf_distill.reading.signal_reader import Student

logger = logging.getLogger(__name__)


class GuardedTraining(Trainer):
    """A Trainer that looks at its losses, and at what the machines around it do."""

    args: ProgressiveDistillConfig
    distillation: Distillation
    readout_parameters: Callable[[], list[torch.nn.Parameter]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refuse_skipping(self.args.on_bad_batch, self.accelerator.distributed_type)
        self.last_inputs: Mapping[str, Any] | None = None
        self._batches = BatchGuard(self, self.args.on_bad_batch)
        self._flags = StepFlags(self.accelerator)
        resumable = self.args.save_strategy != "no" and not self.args.save_only_model
        self._preemption = Preemption(enabled=resumable)
        self._stops = False
        self._hangs = HangWatch(
            self.args.output_dir,
            rank=self.accelerator.process_index,
            ranks=self.accelerator.num_processes,
            limit=limit_of(self.args.ddp_timeout),
        )
        self.add_callback(_StepCallback(self))

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Train as `Trainer.train` does.

        Raises:
            BadBatch: A step was not finite.
            OutOfMemory: A device's memory did not suffice.
            Preempted: SIGTERM has come, and a checkpoint was saved.
        """
        self._stops = False
        with self._preemption, self._hangs, memory_explained(self):
            result = super().train(*args, **kwargs)
        self._batches.check_late()
        if self._stops:
            raise Preempted(f"SIGTERM: checkpoint of step {self.state.global_step} saved in {self.args.output_dir}")
        return result

    # ---- a step ----

    def get_batch_samples(
        self, epoch_iterator: Iterator, num_batches: int, device: torch.device
    ) -> tuple[list, Tensor | int | None]:
        """Fetch an accumulation window."""
        self.mark("fetching its batches", first=True)
        found = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.mark("counting its labels")
        self._batches.open()
        return found

    def before_backward(self, student: Student, inputs: Mapping[str, Any], loss: Tensor) -> Tensor:
        """Look at the loss of a micro-batch; return it for the backward.

        Raises:
            BadBatch: The loss is not finite, and the engine would take the step inside of the backward.
        """
        loss = self._batches.see(student, inputs, loss)
        if self.accelerator.sync_gradients:
            self._flags.ask(self._batches.bad_so_far(), stop=self._preemption.requested)
            if self.accelerator.distributed_type == DistributedType.DEEPSPEED:
                self.judge_step()
        self.mark("in the backward")
        return loss

    def training_step(self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Tensor:
        """Take a training step; the loss of one that is left out counts as 0 in the log."""
        self.last_inputs = inputs
        self.mark("in the forward")
        loss = super().training_step(model, inputs, num_items_in_batch)
        return loss if self.args.on_bad_batch == "stop" else torch.nan_to_num(loss, nan=0.0, posinf=0.0, neginf=0.0)

    def _get_grad_norm(self, model: torch.nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._batches.see_norm(norm)
        return norm

    def judge_step(self) -> None:
        """Decide, on all ranks alike, whether the step is taken and whether it is the last one.

        Raises:
            BadBatch: It is not taken.
        """
        answer = self._flags.answer()
        self._stops = self._stops or answer.stop
        self._batches.judge(answer.bad)

    def stop_after_step(self, control: TrainerControl) -> None:
        """Ask for a checkpoint and the end of training where a rank is to go."""
        if control.should_save or control.should_evaluate or self._stops:
            self._batches.check_late()
        if self._stops:
            logger.warning("SIGTERM: saving a checkpoint of step %d and stopping", self.state.global_step)
            control.should_save = control.should_training_stop = True

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluate a batch."""
        self.mark("evaluating")
        return super().prediction_step(*args, **kwargs)

    def mark(self, doing: str, *, first: bool = False) -> None:
        """Say what this rank is about to do."""
        self._hangs.mark(self.state.global_step, doing, first=first)

    # ---- log and checkpoints ----

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log as `Trainer` does, with the steps that were left out."""
        if self._batches.skipped and "loss" in logs:
            logs["skipped_steps"] = float(self._batches.skipped)
        super().log(logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.mark("saving a checkpoint")
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        remove_earlier(folder, self.accelerator, writes=self.args.should_save)
        with unfinished_goes(folder, writes=self.args.should_save):
            super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        # The first rank now writes trainer_state.json, which says that the files of all ranks are there.
        self.accelerator.wait_for_everyone()


class _StepCallback(TrainerCallback):
    """Decides before the optimizer's step, and ends training after it."""

    def __init__(self, trainer: GuardedTraining) -> None:
        self._trainer = trainer

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave a step out, or stop, where a loss is not finite."""
        self._trainer.judge_step()
        self._trainer.mark("in the optimizer's step")

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop with a checkpoint where a rank is to go."""
        self._trainer.stop_after_step(control)
