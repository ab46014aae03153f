"""Where the `evaluate` modules of this package lie, and how to load them without network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_distill.wording import did_you_mean

if TYPE_CHECKING:
    from evaluate import EvaluationModule

METRICS = (
    "accuracy",
    "bits_per_byte",
    "chrf",
    "f1",
    "masked_accuracy",
    "matthews_correlation",
    "pearson",
    "perplexity",
    "rouge",
    "sacrebleu",
    "seqeval",
    "spearman",
    "squad",
)


def metric_folder(name: str) -> Path:
    """Return the folder of a metric, for `evaluate.load(str(folder))`.

    Raises:
        ValueError: No such metric.
    """
    if name not in METRICS:
        raise ValueError(f"Unknown metric {name!r}.{did_you_mean(name, METRICS)} Known: {', '.join(METRICS)}.")
    return Path(__file__).parent / name


def load_metric(name: str) -> EvaluationModule:
    """Return one of the package's metrics as an `evaluate` module; its script comes from the package's own folder.

    Raises:
        ValueError: No such metric.
    """
    # Slow to import, and the tasks' own metrics do without it.
    import evaluate

    return evaluate.load(str(metric_folder(name)))
