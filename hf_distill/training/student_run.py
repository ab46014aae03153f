"""From a trainer that has finished to the record of its student."""

from __future__ import annotations

import statistics

from hf_distill.curricula import Plan
from hf_distill.curricula.papers import papers_of
from hf_distill.run_record import StageRecord, StudentRun, first_step_at_level
from hf_distill.trainer import ProgressiveDistillTrainer
from hf_distill.training.peak_memory import peak_memory
from hf_distill.training.switching import TIMINGS, held_out_points


def student_run(
    trainer: ProgressiveDistillTrainer,
    *,
    curriculum: str,
    folder: str,
    final_metrics: dict[str, float],
    metric: str,
    level: float | None,
    greater_is_better: bool,
) -> StudentRun:
    """Return the record of a trained student.

    Args:
        trainer: After `train()`.
        curriculum: Label of the curriculum in the comparison.
        folder: Where the student lies, relative to the record.
        final_metrics: Held-out metrics at the end.
        metric: The one that `level` is about.
        level: Where given, the first step at which `metric` reached it is recorded.
        greater_is_better: False where `metric` is a loss.

    Raises:
        ValueError: The trainer has not trained.
    """
    if trainer.distillation.plan is None:
        raise ValueError("there is nothing to record before train()")
    history = [
        {key: value for key, value in point.items() if not key.endswith(TIMINGS)}
        for point in held_out_points(trainer.state.log_history)
    ]
    reached = None
    if level is not None:
        reached = first_step_at_level(history, metric=metric, level=level, greater_is_better=greater_is_better)
    return StudentRun(
        curriculum=curriculum,
        seed=trainer.args.seed,
        folder=folder,
        loss_formula=" + ".join(term.formula() for term in trainer.distillation.plan.stages[-1].terms),
        stages=stage_records(trainer.distillation.plan, trainer),
        history=history,
        training_log=[dict(entry) for entry in trainer.state.log_history if "loss" in entry],
        final_metrics=final_metrics,
        steps_to_level=reached,
        costs=costs_of(trainer),
        papers=papers_of(trainer.distillation.curriculum, trainer.distillation.plan),
    )


def stage_records(plan: Plan, trainer: ProgressiveDistillTrainer) -> list[StageRecord]:
    """Return the stages that were reached, with their steps and revisions."""
    done = trainer.state.global_step
    starts = [0, *(step for step in plan.switches if step < done)]
    records = []
    for index, start in enumerate(starts):
        stage = plan.stages[index]
        named = trainer.teacher is not None and stage.revision is not None
        records.append(
            StageRecord(
                name=stage.name,
                start=start,
                end=starts[index + 1] if index + 1 < len(starts) else done,
                revision=trainer.teacher.revisions[stage.revision].name if named else None,  # type: ignore[union-attr, index]
                terms=[term.formula() for term in stage.terms],
            )
        )
    return records


def costs_of(trainer: ProgressiveDistillTrainer) -> dict[str, float | None]:
    """Return seconds (training with its evaluations), median step, teacher's share of it, stalls, speed and memory."""
    log = trainer.distillation.log
    step = statistics.median(log.step_seconds) if log.step_seconds else None
    spent = sum(log.step_seconds)
    examples = trainer.args.train_batch_size * trainer.args.gradient_accumulation_steps * trainer.args.world_size
    return {
        "seconds": trainer.training_seconds,
        "median_step_seconds": step,
        "teacher_share": log.teacher_seconds / spent if spent else None,
        "swap_stall_seconds": sum(log.stalls),
        "examples_per_second": examples / step if step else None,
        "tokens_per_second": log.tokens / spent if spent else None,
        "peak_memory_bytes": float(peak_memory(trainer.args.device)),
    }
