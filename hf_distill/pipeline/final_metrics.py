"""What a model can do when its training has ended: held-out metrics, those of further held-out sets too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from hf_distill.tasks import HeldOut
from hf_distill.trainer import ProgressiveDistillTrainer
from hf_distill.training.switching import TIMINGS, held_out_points

PREFIX = "further"


def final_metrics(
    trainer: ProgressiveDistillTrainer, further: Mapping[str, HeldOut] | None = None
) -> dict[str, float]:
    """Return the held-out metrics at the end of training, without prefix and timings; evaluates only if need be.

    Args:
        trainer: After `train()`.
        further: Of the task's data: more held-out sets, which are looked at now. Their metrics carry their names, and
            the means over the sets of a group its name.
    """
    points = held_out_points(trainer.state.log_history)
    if not points or points[-1]["step"] != trainer.state.global_step or trainer.args.load_best_model_at_end:
        trainer.evaluate()
        points = held_out_points(trainer.state.log_history)
    metrics = {key: value for key, value in points[-1].items() if key != "step" and not key.endswith(TIMINGS)}
    groups: dict[str, list[Mapping[str, float]]] = {}
    for name, held_out in (further or {}).items():
        found = _metrics_of(trainer, held_out)
        metrics |= {f"{key}_{name}": value for key, value in found.items()}
        if held_out.group is not None:
            groups.setdefault(held_out.group, []).append(found)
    for group, members in groups.items():
        metrics |= {f"{key}_mean_{group}": value for key, value in mean_of(members).items()}
    return metrics


def mean_of(members: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each metric that all members have."""
    shared = [key for key in members[0] if all(key in member for member in members)]
    return {key: fmean(member[key] for member in members) for key in shared}


def _metrics_of(trainer: ProgressiveDistillTrainer, held_out: HeldOut) -> dict[str, float]:
    # Predicted, not evaluated: the set is no point of a curve.
    usual, trainer.compute_metrics = trainer.compute_metrics, held_out.compute_metrics
    try:
        found = trainer.predict(held_out.examples, metric_key_prefix=PREFIX).metrics
    finally:
        trainer.compute_metrics = usual
    return {key.removeprefix(f"{PREFIX}_"): value for key, value in found.items() if not key.endswith(TIMINGS)}
