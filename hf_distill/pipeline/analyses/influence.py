"""`hf-distill analyze influence`: which coordinates the models of a parity run listen to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hf_distill.analysis.parity_influence import (
    ParityInfluenceInfo,
    logit_difference,
    parity_influence_info,
    plot_parity_influence,
    uniform_signs,
)
from hf_distill.pipeline.analyses.answers import (
    Answer,
    ask_each,
    folder_of_answers,
    identity,
    places_to_ask,
    plain,
    plot_steps,
    save_answer,
)
from hf_distill.pipeline.finished_run import FinishedRun, RunModel, Which
from hf_distill.tasks import Parity


def analyze_influence(
    run: FinishedRun, *, which: Which = "all", revisions: Sequence[str] = (), examples: int = 4000, order: int = 1
) -> Answer:
    """Measure influence and correlations of a parity run's models, all on the same fresh inputs.

    Args:
        run: The run.
        which: The teacher's revisions, the students, or both.
        revisions: Names or patterns of revisions; all by default.
        examples: Inputs drawn.
        order: Correlations with products of up to so many coordinates.

    Raises:
        ValueError: Another task than parity, no models, or impossible settings.
    """
    task = run.task
    if not isinstance(task, Parity):
        raise ValueError(f"influence is a question for the task parity; this run's is {run.recipe.task['name']!r}")
    signs = uniform_signs(examples, task.d, seed=task.data_seed)
    support = [int(index) for index in task.support_indices()]

    def measure(model: RunModel) -> ParityInfluenceInfo:
        difference = logit_difference(model.model, inputs=task.inputs)
        return parity_influence_info(difference, signs, support, order=order)

    asked = ask_each(run, which, places_to_ask(run, which, revisions), measure)
    shown = [_shown(info) for _, info in asked]
    numbers = [
        {**identity(model), **columns, **plain(info)} for (model, info), columns in zip(asked, shown, strict=True)
    ]
    files = [save_answer(run, "influence", numbers, examples=examples, order=order)]
    teacher = [(model, info) for model, info in asked if model.curriculum is None]
    if teacher:
        models, infos = zip(*teacher, strict=True)
        files.append(plot_parity_influence(infos, plot_steps(models), folder_of_answers(run) / "influence.png"))
    return Answer(
        columns=("model", "accuracy", "influence", "outside", "ratio", "degree-1 ratio"),
        rows=[(model.name, info.accuracy, *row.values()) for (model, info), row in zip(asked, shown, strict=True)],
        note=f"means over the {task.k} coordinates of the support and the {task.d - task.k} others; {examples} inputs",
        files=files,
    )


def _shown(info: ParityInfluenceInfo) -> dict[str, Any]:
    return {
        "influence_inside": info.influence_inside,
        "influence_outside": info.influence_outside,
        "influence_ratio": info.influence_ratio,
        "correlation_ratio": info.correlation_ratio,
    }
