"""`hf-distill analyze sensitivity`: how evenly parameters contribute, and what is left when the least sensitive go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from hf_distill.analysis.pruning_curve import PruningCurveInfo, plot_pruning_curve, pruning_curve_info
from hf_distill.analysis.sensitivity import (
    SensitivityInfo,
    parameter_sensitivity,
    plot_sensitivity,
    sensitivity_info,
)
from hf_distill.pipeline.analyses.answers import (
    Answer,
    ask_each,
    folder_of_answers,
    identity,
    places_to_ask,
    plain,
    save_answer,
)
from hf_distill.pipeline.finished_run import FinishedRun, RunModel, Which
from hf_distill.reading.signals import at_least_float32

_SHOWN_SHARES = (0.0, 0.5, 0.8)


def analyze_sensitivity(
    run: FinishedRun,
    *,
    which: Which = "all",
    revisions: Sequence[str] = (),
    batches: int = 50,
    examples: int | None = None,
) -> Answer:
    """Measure sensitivity on training batches, prune by it and evaluate on held-out data.

    The batches are those of the recipe's first seed, the same for every model, without dropout.

    Args:
        run: The run.
        which: The teacher, the students, or both.
        revisions: Names or patterns of the teacher's revisions; the final one by default.
        batches: Training batches of the recipe's size.
        examples: Held-out examples of the pruning curve; all by default.

    Raises:
        ValueError: No models, or impossible settings.
    """
    training = run.batches("train", examples=batches * run.batch_size("train"))
    held_out = run.batches("validation", examples=examples)
    metric = "squared error" if run.task.head == "regression" else "accuracy"

    def measure(model: RunModel) -> tuple[SensitivityInfo, PruningCurveInfo]:
        found = parameter_sensitivity(
            model.model, training, lambda batch: _mean_loss(*run.rows(model.model, batch), run.task.head)
        )
        curve = pruning_curve_info(model.model, found.raw, lambda: _metric(run, model, held_out))
        return sensitivity_info(found), curve

    asked = ask_each(run, which, places_to_ask(run, which, revisions, final_only=True), measure)
    numbers = [{**identity(model), "sensitivity": plain(info[0]), "pruning": plain(info[1])} for model, info in asked]
    # Every seed would be a line of its own: pictures show the first one, the JSON has them all.
    drawn = {model.name: info for model, info in asked if model.seed in (None, run.recipe.seeds[0])}
    spreads, curves = ({name: info[part] for name, info in drawn.items()} for part in (0, 1))
    folder = folder_of_answers(run)
    return Answer(
        columns=("model", "loss", "deviation", "÷ loss", "top fifth", metric, "−50 %", "−80 %"),
        rows=[_row(model, *info) for model, info in asked],
        note=(
            f"standard deviation of |θ · ∂L/∂θ| over {len(training)} training batches, as it is and divided by the "
            f"loss; the share of the most sensitive fifth; {metric} with the least sensitive weights set to zero"
        ),
        files=[
            save_answer(run, "sensitivity", numbers, batches=len(training), examples=examples, metric=metric),
            plot_sensitivity(spreads, folder / "sensitivity.png"),
            plot_pruning_curve(curves, folder / "pruning_curve.png", metric=f"held-out {metric}"),
        ],
    )


def _row(model: RunModel, info: SensitivityInfo, curve: PruningCurveInfo) -> tuple[Any, ...]:
    kept = [curve.values[curve.shares.index(share)] for share in _SHOWN_SHARES]
    return (model.name, info.loss, info.raw.deviation, info.normalised.deviation, info.raw.top_sum, *kept)


def _mean_loss(logits_RV: Tensor, labels_R: Tensor, head: str) -> Tensor:
    """Mean cross-entropy with the labels, or squared error. Shapes: (R, V), (R,) -> scalar."""
    logits_RV = at_least_float32(logits_RV)
    if head == "regression":
        return mse_loss(logits_RV, labels_R.to(logits_RV.dtype).view_as(logits_RV))
    return cross_entropy(logits_RV, labels_R)


@torch.no_grad()
def _metric(run: FinishedRun, model: RunModel, batches: Sequence[Mapping[str, Any]]) -> float:
    total, rows = 0.0, 0
    for batch in batches:
        logits_RV, labels_R = run.rows(model.model, batch)
        rows += len(labels_R)
        if run.task.head == "regression":
            total += _mean_loss(logits_RV, labels_R, run.task.head).item() * len(labels_R)
        else:
            total += float((logits_RV.argmax(-1) == labels_R).sum())
    return total / max(rows, 1)
