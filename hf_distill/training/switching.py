"""What happens at the switch of a stage: the next revision, the optimizer and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments, get_scheduler

from hf_distill.curricula import Plan
from hf_distill.training.stage_best import best_step_of_stage, load_stage_best, save_stage_best

if TYPE_CHECKING:
    from hf_distill.trainer import ProgressiveDistillTrainer


TIMINGS = ("runtime", "_per_second", "preparation_time")
"""How the Trainer's own timings end among the held-out metrics."""


class CurriculumCallback(TrainerCallback):
    """Begins the curriculum with training, resets the optimizer at switches and lets adaptive curricula look."""

    def __init__(self, trainer: ProgressiveDistillTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Lay out the stages, now that max_steps is known."""
        self.trainer.begin()
        self.trainer.join_clipping()
        distillation = self.trainer.distillation
        assert distillation.plan is not None
        if distillation.curriculum.best_of_stage:
            data = kwargs.get("train_dataloader")
            check_stages_are_evaluated(args, state, distillation.plan, len(data) if isinstance(data, Sized) else None)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Change the teacher and, where asked for, forget the optimizer's state at the first step of a stage."""
        distillation = self.trainer.distillation
        assert distillation.plan is not None
        distillation.enter_stage(state.global_step)
        for parameter in self.trainer.readout_parameters():
            # The Trainer clears the gradients of the student only.
            parameter.grad = None
        if state.global_step in distillation.plan.switches:
            self._switch(args)
        self.trainer.distillation.log.step_begins()

    def _switch(self, args: TrainingArguments) -> None:
        trainer, step = self.trainer, self.trainer.state.global_step
        if trainer.distillation.curriculum.best_of_stage:
            trainer.accelerator.wait_for_everyone()
            best = self._best_step(held_out_points(trainer.state.log_history), step)
            load_stage_best(trainer.model, args.output_dir, step=best)
        if trainer.at_switch != "continue":
            reset_optimizer(trainer.optimizer)
            trainer.forget_beside()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Step what is trained beside the student with an optimizer of its own."""
        self.trainer.step_beside()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Let a teacher that follows the student do so, and stop the step's clock."""
        if self.trainer.teacher is not None:
            self.trainer.teacher.student_stepped()
        self.trainer.distillation.log.step_ends()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Record a switch where the adaptive rule asks for one; keep the best student of a stage if wanted."""
        plan, step = self.trainer.distillation.plan, state.global_step
        if plan is None or not self.trainer.is_in_train:
            return
        points = held_out_points(state.log_history)
        if self._more_to_come(points[-1]):
            return
        plan.observe(points, step)
        # Nothing starts from the best of the last stage, and a run that goes back to an earlier one still needs its.
        has_next = plan.index_at(max(step - 1, 0)) < len(plan.stages) - 1
        if has_next and self._best_step(points, step) == step and args.should_save:
            save_stage_best(self.trainer.model, args.output_dir, step=step)

    def _more_to_come(self, point: Mapping[str, float]) -> bool:
        """Return whether other evaluation data sets of this step are still to be evaluated."""
        data = self.trainer.eval_dataset
        return isinstance(data, dict) and not all(any(key.startswith(f"{name}_") for key in point) for name in data)

    def _best_step(self, points: Sequence[Mapping[str, float]], step: int) -> int | None:
        """Return the step of the best student of the stage that ended or was evaluated at `step`."""
        plan, chosen = self.trainer.distillation.plan, self.trainer.distillation.curriculum.best_of_stage
        if plan is None or chosen is None:
            return None
        # The student of now is the one that the step before has made.
        since = plan.start_of(plan.index_at(max(step - 1, 0))) or 0
        return best_step_of_stage(
            points, since=since, metric=chosen.metric, greater_is_better=chosen.greater_is_better
        )


def check_stages_are_evaluated(args: TrainingArguments, state: TrainerState, plan: Plan, batches: int | None) -> None:
    """Refuse a run in which a stage ends before its first evaluation, so that no student could be its best.

    Args:
        args: Say when evaluations happen.
        state: Knows max_steps and eval_steps as numbers of steps.
        plan: The stages.
        batches: Micro-batches of an epoch, where that is known.

    Raises:
        ValueError: A stage that another one follows has no evaluation.
    """
    accumulation = args.gradient_accumulation_steps
    interval = state.eval_steps if args.eval_strategy == "steps" else batches and math.ceil(batches / accumulation)
    if not interval:
        return
    delay = math.ceil(args.eval_delay if args.eval_strategy == "steps" else args.eval_delay * interval)
    for start, end in zip([0, *plan.switches], plan.switches, strict=False):
        first = max(start // interval + 1, math.ceil(delay / interval)) * interval
        if first > end:
            raise ValueError(
                f"the stage of the steps {start} to {end} ends before its first evaluation, at step {first}, and the "
                "next stage starts from its best student; lower eval_steps or eval_delay, or make the stage longer"
            )


def held_out_points(log_history: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Return the evaluations of a trainer's log: step and metrics without the `eval_` prefix, one point a step.

    Several evaluation data sets are one point; their metrics carry their names.
    """
    points: dict[float, dict[str, float]] = {}
    for entry in log_history:
        metrics = {key.removeprefix("eval_"): value for key, value in entry.items() if key.startswith("eval_")}
        if metrics:
            points.setdefault(entry["step"], {"step": entry["step"]}).update(metrics)
    return list(points.values())


def reset_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Forget moments and step counts, as if the optimizer were new; parameter groups stay."""
    optimizer.state.clear()


def restarting_schedule(
    args: TrainingArguments, optimizer: torch.optim.Optimizer, plan: Plan, max_steps: int
) -> LambdaLR:
    """Return the learning-rate schedule of `args`, started anew over the length of each stage.

    A pure function of the step, so that it resumes like any other.

    Raises:
        ValueError: The plan is adaptive (its lengths are unknown) or the schedule has no closed form.
    """
    if plan.rule is not None:
        raise ValueError(
            "at_switch: restart needs stages of known length; an adaptive curriculum has none. Use reset_optimizer"
        )
    starts = [0, *plan.switches]
    lengths = [end - start for start, end in zip(starts, [*starts[1:], max_steps], strict=True)]
    probe = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedules = [
        get_scheduler(
            args.lr_scheduler_type,
            optimizer=probe,
            num_warmup_steps=args.get_warmup_steps(length),
            num_training_steps=length,
            scheduler_specific_kwargs=args.lr_scheduler_kwargs or {},
        )
        for length in lengths
    ]
    if not all(isinstance(schedule, LambdaLR) for schedule in schedules):
        name = args.lr_scheduler_type
        raise ValueError(f"at_switch: restart does not know the schedule {name}; use reset_optimizer")
    factors = [schedule.lr_lambdas[0] for schedule in schedules]

    def factor(step: int) -> float:
        index = min(plan.index_at(step), len(factors) - 1)
        return factors[index](step - starts[index])

    return LambdaLR(optimizer, factor)
