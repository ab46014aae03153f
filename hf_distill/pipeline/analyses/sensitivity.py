"""`hf-distill analyze sensitivity`: how evenly parameters contribute, and what is left when the least sensitive go."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from hf_distill.evaluation.held_out import check_examples, held_out_metric
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
from hf_distill.reading.signals import Head, at_least_float32
from hf_distill.tasks import Task

GENERATED: frozenset[Head] = frozenset({"seq2seq_lm"})
"""Heads whose metrics are of generated texts."""

_SHOWN_SHARES = (0.0, 0.5, 0.8)


def analyze_sensitivity(
    run: FinishedRun,
    *,
    which: Which = "all",
    revisions: Sequence[str] = (),
    batches: int = 50,
    examples: int | None = None,
) -> Answer:
    """Measure sensitivity on training batches, prune by it and measure the held-out metric (`curve_metric`).

    The batches are those of the recipe's first seed, the same for every model, without dropout.

    Args:
        run: The run.
        which: The teacher, the students, or both.
        revisions: Names or patterns of the teacher's revisions; the final one by default.
        batches: Training batches of the recipe's size.
        examples: Held-out examples of the pruning curve; all by default.

    Raises:
        ValueError: No models, impossible settings, or too few examples for the task's metric.
    """
    training = run.batches("train", examples=batches * run.batch_size("train"))
    metric = curve_metric(run.task)
    check_examples(run, metric, examples)

    def measure(model: RunModel) -> tuple[SensitivityInfo, PruningCurveInfo]:
        found = parameter_sensitivity(
            model.model, training, lambda batch: _mean_loss(*run.rows(model.model, batch), run.task.head)
        )
        with _measured(run, model, metric, examples) as evaluate:
            curve = pruning_curve_info(model.model, found.raw, evaluate)
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
            f"loss; the share of the most sensitive fifth; held-out {metric} with the least sensitive weights set to "
            f"zero{_instead(run.task, metric)}"
        ),
        files=[
            save_answer(run, "sensitivity", numbers, batches=len(training), examples=examples, metric=metric),
            plot_sensitivity(spreads, folder / "sensitivity.png"),
            plot_pruning_curve(curves, folder / "pruning_curve.png", metric=f"held-out {metric}"),
        ],
    )


def curve_metric(task: Task) -> str:
    """Return what is measured while weights are set to zero: the task's metric, as its runs measure it held out.

    Scores of generated texts would take a generation at every point: the accuracy of each token behind the right ones
    stands for them. So it does for perplexity, which is the loss once more, and soon beyond any axis.
    """
    if task.head in GENERATED:
        return "token accuracy"
    return "next_token_accuracy" if task.metric == "perplexity" else task.metric


def _instead(task: Task, metric: str) -> str:
    return "" if metric == task.metric else f" (in the place of {task.metric})"


def _row(model: RunModel, info: SensitivityInfo, curve: PruningCurveInfo) -> tuple[Any, ...]:
    kept = [curve.values[curve.shares.index(share)] for share in _SHOWN_SHARES]
    return (model.name, info.loss, info.raw.deviation, info.normalised.deviation, info.raw.top_sum, *kept)


def _mean_loss(logits_RV: Tensor, labels_R: Tensor, head: str) -> Tensor:
    """Mean cross-entropy with the labels, or squared error. Shapes: (R, V), (R,) -> scalar."""
    logits_RV = at_least_float32(logits_RV)
    if head == "regression":
        return mse_loss(logits_RV, labels_R.to(logits_RV.dtype).view_as(logits_RV))
    return cross_entropy(logits_RV, labels_R)


@contextmanager
def _measured(run: FinishedRun, model: RunModel, metric: str, examples: int | None) -> Iterator[Callable[[], float]]:
    if run.task.head not in GENERATED:
        with held_out_metric(run, model.model, metric, examples=examples) as evaluate:
            yield evaluate
        return
    batches = run.batches("validation", examples=examples)
    yield lambda: _token_accuracy(run, model, batches)


@torch.no_grad()
def _token_accuracy(run: FinishedRun, model: RunModel, batches: Sequence[Mapping[str, Any]]) -> float:
    right = rows = 0
    for batch in batches:
        logits_RV, labels_R = run.rows(model.model, batch)
        rows += len(labels_R)
        right += int((logits_RV.argmax(-1) == labels_R).sum())
    return right / max(rows, 1)
