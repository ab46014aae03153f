"""Tasks of EleutherAI's lm-evaluation-harness for causal language models, where the package lm-eval is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

PACKAGE = "lm-eval"


def check_harness(tasks: Sequence[str], *, head: str) -> str:
    """Refuse what cannot be asked, before anything is measured; return the version of lm-eval.

    Raises:
        ValueError: Another head than causal_lm, or lm-eval is not installed.
    """
    if head != "causal_lm":
        raise ValueError(
            f"--lm-eval {','.join(tasks)}: these tasks are for causal language models, this run's head is {head}"
        )
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        raise ValueError(
            f"--lm-eval {','.join(tasks)}: the package {PACKAGE} is not installed; `pip install "
            "'hf-distill[lm-eval]'` and call again (what else was measured is kept)"
        ) from None


def harness_scores(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    *,
    batch_size: int,
    limit: int | None = None,
    include_path: str | Path | None = None,
) -> dict[str, dict[str, Any]]:
    """Return the metrics of each task, with their standard errors as `<metric>_stderr`.

    Compare them only between models asked with the same `limit` and version: lm-eval takes the first examples.

    Args:
        model: A causal language model, on its device.
        tokenizer: Its tokenizer.
        tasks: Names of lm-eval's tasks; it loads their data from the Hub.
        batch_size: Of the harness.
        limit: Examples of each task; None for all.
        include_path: A folder with tasks of one's own.

    Raises:
        ValueError: lm-eval does not know a task, or cannot load its data.
    """
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(include_path) if include_path is not None else None)
    unknown = [task for task in tasks if not manager.match_tasks([task])]
    if unknown:
        raise ValueError(f"--lm-eval: lm-eval knows no task {unknown[0]!r}; `lm-eval ls tasks` lists those it knows")
    wrapped = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
    try:
        found = simple_evaluate(model=wrapped, tasks=list(tasks), limit=limit, task_manager=manager, log_samples=False)
    except (OSError, ConnectionError) as error:
        raise ValueError(
            f"--lm-eval {','.join(tasks)}: lm-eval cannot load the data of a task: {error}. It is read from the Hub; "
            "without a network, load it once where there is one and take the cache along"
        ) from error
    return {task: _metrics(metrics) for task, metrics in found["results"].items()}


def _metrics(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers of a task; `acc,none` is `acc`, another filter stays in the name."""
    metrics = {}
    for key, value in found.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool) and "," in key:
            name, _, filtered = key.partition(",")
            metrics[name if filtered == "none" else f"{name} {filtered}"] = float(value)
    return metrics
