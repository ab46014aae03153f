"""Going through the examples of a training without training: the very loop, sampler and stages, and no student."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from accelerate import DistributedType
from torch import Tensor
from transformers import DefaultFlowCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from hf_distill.config import ProgressiveDistillConfig
from hf_distill.curricula import Plan
from hf_distill.reading.signals import Rows, select_rows
from hf_distill.trainer import ProgressiveDistillTrainer
from hf_distill.training.progress import StageProgressCallback

_KEPT_CALLBACKS = (DefaultFlowCallback, StageProgressCallback)


class Visitor(Protocol):
    """What is done with each micro-batch that a teacher would see."""

    def visit(self, inputs: Mapping[str, Any], rows: Rows, *, revision: int) -> None:
        """Look at a micro-batch.

        Args:
            inputs: As the teacher gets it.
            rows: Which of its positions count.
            revision: Number of the revision of the step's stage.
        """


class TargetWalk(ProgressiveDistillTrainer):
    """A trainer whose steps hand their batches to a visitor instead of training.

    Order, epochs, accumulation, shards of several processes and the stage of each step are those of a training with
    the same arguments, because it is transformers' own loop that runs. No student's forward, no optimizer, no
    evaluation, no checkpoint, no log, no push.

    Args:
        args: Of the training.
        fingerprint: Names all that decides which examples are visited; None where nobody knows it.
        **kwargs: As for `ProgressiveDistillTrainer`.

    Raises:
        ValueError: A revision `auto` that nobody has chosen, or arguments that split models over processes.
    """

    def __init__(self, *, args: ProgressiveDistillConfig, fingerprint: str | None = None, **kwargs: Any) -> None:
        super().__init__(args=quiet_arguments(args), **kwargs)
        if self.accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.FSDP):
            raise ValueError(
                f"targets are cached by whole teachers, one a process, not under "
                f"{self.accelerator.distributed_type.value}; start `hf-distill cache` without that engine's "
                "configuration (students may train with it afterwards)"
            )
        self.fingerprint = fingerprint
        self._visitor: Visitor | None = None
        for callback in list(self.callback_handler.callbacks):
            if not isinstance(callback, _KEPT_CALLBACKS):
                self.remove_callback(callback)
        self.add_callback(_BeginCallback(self))

    def plan(self) -> Plan:
        """Return the stages of the training, before it is walked.

        Raises:
            ValueError: The plan does not fit, or nobody has chosen a revision for `auto`.
        """
        steps = self.args.max_steps
        if steps <= 0:
            steps = self.set_initial_training_values(self.args, self.get_train_dataloader())[-1]
        return self._plan_of(steps)

    def _plan_of(self, steps: int) -> Plan:
        distillation = self.distillation
        if distillation.curriculum.needs_scores and distillation.chosen_revision is None:
            raise ValueError("the revision `auto` has to be chosen by score before its targets can be cached")
        return distillation.make_plan(steps)

    def walk(self, visitor: Visitor) -> None:
        """Hand a visitor the micro-batches of all steps in which a teacher runs."""
        self._visitor = visitor
        self.train()

    def begin(self) -> None:
        """Lay out the stages; no teacher is fetched before something has to go through it.

        Raises:
            ValueError: The plan does not fit, or nobody has chosen a revision for `auto`.
        """
        self.distillation.max_steps = max(self.state.max_steps, 1)
        self.distillation.plan = self._plan_of(self.state.max_steps)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, Any], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Hand a micro-batch to the visitor where a teacher runs; nothing is learned."""
        assert self._visitor is not None
        distillation, step = self.distillation, self.state.global_step
        stage = distillation.stage_at(step)
        if stage.revision is not None and any(t.objective.uses_teacher for t in distillation.live_terms(step)):
            batch = self._prepare_inputs(inputs)
            with self.compute_loss_context_manager(), torch.no_grad():
                rows = select_rows(distillation.head, batch)
                self._visitor.visit(distillation.reader.positioned(batch), rows, revision=stage.revision)
        # No update is due: an optimizer without gradients, and a scaler of them, would have nothing to look at.
        self.accelerator.gradient_state._set_sync_gradients(False)
        return torch.zeros((), device=self.args.device)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Leave it out."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log nothing."""


class _BeginCallback(TrainerCallback):
    """Begins a walk once its number of steps is known."""

    def __init__(self, walk: TargetWalk) -> None:
        self._walk = walk

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._walk.begin()


def quiet_arguments(args: ProgressiveDistillConfig) -> ProgressiveDistillConfig:
    """Return a copy of training arguments that decides the same batches and leaves nothing behind."""
    quiet = copy.copy(args)
    quiet.save_strategy = SaveStrategy.NO
    quiet.logging_strategy = IntervalStrategy.NO
    quiet.report_to = []
    quiet.push_to_hub = quiet.load_best_model_at_end = quiet.eval_on_start = quiet.torch_compile = False
    # Without gradients there is nothing to clip and to scale.
    quiet.max_grad_norm = 0.0
    quiet.optim, quiet.optim_args, quiet.optim_target_modules = "sgd", None, None
    quiet.neftune_noise_alpha = None
    return quiet
