"""The nine subsets of GLUE as nyu-mll/glue has them: columns, classes, metrics, splits (Wang et al. 2018)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

LARGEST_SCORE = 5.0
"""STS-B's scores go from 0 (unrelated) to 5 (the same)."""


class Subset(NamedTuple):
    """One subset.

    Attributes:
        title: Its name as people write it.
        texts: Columns of the text, or of both texts of a pair.
        classes: In the order of their numbers; empty where the answer is a score.
        metrics: The first is the one that is shown; GLUE's own score is their mean.
        validation: The split held out.
        further: Splits looked at once at the end.
    """

    title: str
    texts: tuple[str, ...]
    classes: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("accuracy",)
    validation: str = "validation"
    further: tuple[str, ...] = ()


def glue_subsets() -> Mapping[str, Subset]:
    """Return the subsets by name."""
    sentences = ("sentence1", "sentence2")
    entails = ("entailment", "not_entailment")
    return {
        "cola": Subset("CoLA", ("sentence",), ("unacceptable", "acceptable"), ("matthews_correlation", "accuracy")),
        "sst2": Subset("SST-2", ("sentence",), ("negative", "positive")),
        "mrpc": Subset("MRPC", sentences, ("not_equivalent", "equivalent"), ("f1", "accuracy")),
        "stsb": Subset("STS-B", sentences, metrics=("pearson", "spearman")),
        "qqp": Subset("QQP", ("question1", "question2"), ("not_duplicate", "duplicate"), ("f1", "accuracy")),
        "mnli": Subset(
            "MNLI",
            ("premise", "hypothesis"),
            ("entailment", "neutral", "contradiction"),
            validation="validation_matched",
            further=("validation_mismatched",),
        ),
        "qnli": Subset("QNLI", ("question", "sentence"), entails),
        "rte": Subset("RTE", sentences, entails),
        "wnli": Subset("WNLI", sentences, ("not_entailment", "entailment")),
    }
