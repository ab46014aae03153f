"""GLUE: nine tasks on sentences and pairs of sentences (Wang et al. 2018, arXiv 1804.07461)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hf_distill.tasks.base import TASKS
from hf_distill.tasks.glue_subsets import LARGEST_SCORE, Subset, glue_subsets
from hf_distill.tasks.sentence_task import SentenceTask
from hf_distill.tasks.table_sources import TableSource
from hf_distill.tasks.table_task import Further
from hf_distill.wording import did_you_mean


@TASKS.register("glue")
@dataclass(kw_only=True)
class Glue(SentenceTask):
    """One of GLUE's nine subsets, with its own columns, classes and metrics.

    CoLA is measured by Matthews' correlation, MRPC and QQP by F1 and accuracy, STS-B (scores from 0 to 5) by
    Pearson's and Spearman's correlation, the others by accuracy. MNLI is held out on its matched split; the
    mismatched one is looked at at the end (`accuracy_mismatched`). The Hub's test splits have no labels.
    """

    subset: str = field(metadata={"help": "cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte or wnli"})
    data: dict[str, Any] = field(
        default_factory=lambda: {"hub": "nyu-mll/glue"},
        metadata={
            "help": "{hub: nyu-mll/glue, revision} (its configuration is the subset), or {path: FOLDER} with "
            "train.jsonl, validation.jsonl, ... of the same columns; both take split and validation_split"
        },
    )

    def __post_init__(self) -> None:
        subsets = glue_subsets()
        if self.subset not in subsets:
            raise ValueError(
                f"subset: GLUE has no {self.subset!r}.{did_you_mean(self.subset, subsets)} It has "
                f"{', '.join(subsets)}."
            )
        super().__post_init__()

    @property
    def layout(self) -> Subset:
        """Columns, classes, metrics and splits of the subset."""
        return glue_subsets()[self.subset]

    def table_spec(self) -> Mapping[str, Any]:
        """Take the subset as the Hub's configuration, and its own validation split."""
        spec = {"validation_split": self.layout.validation, **self.data}
        hub = spec.get("hub")
        if isinstance(hub, str) and not Path(hub).is_dir():
            spec.setdefault("name", self.subset)
        return spec

    def class_columns(self) -> tuple[Sequence[str], str, bool]:
        """Return the subset's columns, `label`, and whether it has classes."""
        return self.layout.texts, "label", bool(self.layout.classes)

    def class_names(self) -> list[str] | None:
        """Return the classes in the Hub's order."""
        return list(self.layout.classes) or None

    def metric_names(self) -> Sequence[str]:
        """Return the subset's metrics."""
        return self.layout.metrics

    def about(self) -> dict[str, Any]:
        """Return the subset's name, and that of its configuration on the Hub."""
        return {**super().about(), "title": f"{self.layout.title} (GLUE)", "config": self.subset}

    def score_range(self) -> tuple[float, float]:
        """Return the range of STS-B's scores."""
        return 0.0, LARGEST_SCORE

    def further(self, source: TableSource) -> dict[str, Further]:
        """Add the subset's own further split where its own validation split is held out."""
        names = [*self.further_splits]
        if source.validation_split == self.layout.validation:
            names = [*self.layout.further, *names]
        tables = {split: self.read(source, split) for split in dict.fromkeys(names)}
        return {split.removeprefix("validation_"): Further(table) for split, table in tables.items()}
