"""Whether a training's stages can be laid out, before any of its steps."""

from __future__ import annotations

import torch

from hf_distill.trainer import ProgressiveDistillTrainer
from hf_distill.training.switching import restarting_schedule


def check_plan(trainer: ProgressiveDistillTrainer, *, chosen: str | None, problem: str | None = None) -> None:
    """Lay out a trainer's stages over its teacher's revisions, where those are known.

    Args:
        trainer: Before training.
        chosen: The revision that `auto` stands for.
        problem: Why there is none, where the teacher has several revisions.

    Raises:
        ValueError: A revision does not exist, a stage does not fit into the run, or `auto` is asked for and there is
            no such revision.
    """
    distillation = trainer.distillation
    if distillation.teacher is not None and not distillation.teacher.revisions:
        return
    if distillation.curriculum.needs_scores:
        if chosen is None:
            raise ValueError(f"no revision can be chosen by `auto`: {problem or 'the teacher has one revision only'}")
        distillation.chosen_revision = chosen
    steps = planned_steps(trainer)
    plan = distillation.make_plan(steps)
    if trainer.at_switch == "restart":
        nobody = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        restarting_schedule(trainer.args, nobody, plan, steps)


def planned_steps(trainer: ProgressiveDistillTrainer) -> int:
    """Return the optimizer steps of a run: `max_steps`, or what the epochs come to."""
    if trainer.args.max_steps > 0:
        return trainer.args.max_steps
    return trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())[-1]
