"""How closely a student follows its teacher, and whether its probabilities can be believed.

Agreement and KL say what was transferred, accuracy does not: Stanton et al. 2021 (arXiv 2106.05945). Calibration
error: Guo et al. 2017 (arXiv 1706.04599). Shape legend: R rows (examples or labelled positions), V classes or tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hf_distill.analysis.drawing import (
    MUTED,
    new_figure,
    save_figure,
    series_colour,
    series_line_style,
    step_axis,
    style_axes,
)
from hf_distill.reading.signals import at_least_float32

BINS = 15
"""Confidence bins of the calibration error, as in Guo et al."""
_SMALLEST_BIN = 0.01


class FidelityInfo(NamedTuple):
    """A student beside one revision of its teacher, over all rows. Divergences in nats a row, temperature 1."""

    rows: int
    agreement: float
    """Share of rows with the same arg-max."""
    forward_kl: float
    """Mean KL(teacher‖student)."""
    reverse_kl: float
    """Mean KL(student‖teacher)."""


class CalibrationInfo(NamedTuple):
    """Confidence (largest probability) against accuracy, in equal-width bins (a, b] of confidence; the first has 0."""

    rows: int
    accuracy: float
    confidence: float
    """Mean confidence over all rows."""
    error: float
    """Expected calibration error: mean |accuracy − confidence| of a bin, weighted by its rows. Comparable between
    models on the same rows with the same number of bins only."""
    counts: tuple[int, ...]
    bin_accuracy: tuple[float, ...]
    """NaN where a bin is empty."""
    bin_confidence: tuple[float, ...]
    """NaN where a bin is empty."""


class FidelityTally:
    """Adds up a student and a teacher over batches, in float64 and without keeping logits."""

    def __init__(self) -> None:
        self._sums = torch.zeros(3, dtype=torch.float64)
        self._rows = 0

    @torch.no_grad()
    def add(self, student: Tensor, teacher: Tensor) -> None:
        """Add a batch of logits.

        Shapes: (R, V), (R, V).

        Raises:
            ValueError: Other shapes, or one output only (regression has no classes to agree on).
        """
        _check_logits(student, "student")
        if student.shape != teacher.shape:
            raise ValueError(
                f"expected student and teacher logits of one shape (rows, classes), got {tuple(student.shape)} and "
                f"{tuple(teacher.shape)}; cut both to the classes or tokens they share"
            )
        student_RV = at_least_float32(student).log_softmax(-1)
        teacher_RV = at_least_float32(teacher).log_softmax(-1)
        batch = (
            (student.argmax(-1) == teacher.argmax(-1)).double().sum(),
            _kl(teacher_RV, student_RV).double().sum(),
            _kl(student_RV, teacher_RV).double().sum(),
        )
        self._sums += torch.stack(batch).cpu()
        self._rows += len(student)

    def info(self) -> FidelityInfo:
        """Return the means over all rows.

        Raises:
            ValueError: No row was added.
        """
        agreement, forward, reverse = (self._sums / _at_least_one(self._rows)).tolist()
        return FidelityInfo(self._rows, agreement, forward, reverse)


class CalibrationTally:
    """Adds up confidences and hits over batches.

    Args:
        bins: Equal-width bins of confidence in [0, 1].
    """

    def __init__(self, bins: int = BINS) -> None:
        if bins < 1:
            raise ValueError(f"bins: expected at least 1, got {bins}")
        self._edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
        self._sums = torch.zeros(3, bins, dtype=torch.float64)

    @property
    def rows(self) -> int:
        """Rows added so far."""
        return int(self._sums[0].sum())

    @torch.no_grad()
    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Add a batch.

        Shapes: logits (R, V), labels (R,) without -100.

        Raises:
            ValueError: Other shapes.
        """
        _check_logits(logits, "model")
        if labels.shape != logits.shape[:1]:
            raise ValueError(f"expected one label for each of {len(logits)} rows, got {tuple(labels.shape)}")
        confidence_R, predicted_R = (values.cpu() for values in at_least_float32(logits).softmax(-1).double().max(-1))
        bin_R = torch.bucketize(confidence_R, self._edges)
        hits_R = (predicted_R == labels.cpu()).double()
        self._sums.index_add_(1, bin_R, torch.stack([torch.ones_like(hits_R), confidence_R, hits_R]))

    def info(self) -> CalibrationInfo:
        """Return the calibration over all rows.

        Raises:
            ValueError: No row was added.
        """
        counts, confidences, hits = self._sums
        rows = _at_least_one(int(counts.sum()))
        return CalibrationInfo(
            rows=rows,
            accuracy=(hits.sum() / rows).item(),
            confidence=(confidences.sum() / rows).item(),
            error=((hits - confidences).abs().sum() / rows).item(),
            counts=tuple(int(count) for count in counts),
            bin_accuracy=tuple((hits / counts).tolist()),
            bin_confidence=tuple((confidences / counts).tolist()),
        )


def fidelity_info(student: Tensor, teacher: Tensor) -> FidelityInfo:
    """Compare logits that are in memory; `FidelityTally` does the same batch by batch.

    Shapes: (R, V), (R, V).

    Raises:
        ValueError: As in `FidelityTally`.
    """
    tally = FidelityTally()
    tally.add(student, teacher)
    return tally.info()


def calibration_info(logits: Tensor, labels: Tensor, *, bins: int = BINS) -> CalibrationInfo:
    """Compare confidence and accuracy of logits that are in memory; `CalibrationTally` does the same batch by batch.

    Shapes: (R, V), (R,).

    Raises:
        ValueError: As in `CalibrationTally`.
    """
    tally = CalibrationTally(bins)
    tally.add(logits, labels)
    return tally.info()


def plot_fidelity(infos: Mapping[str, Sequence[FidelityInfo]], steps: Sequence[int], path: str | Path) -> Path:
    """Draw each student's KL to every revision of the teacher, and their agreement.

    Args:
        infos: For each student what `fidelity_info` returned for every revision.
        steps: Training step of each revision.
        path: PNG file to write (1200 × 950 pixels).

    Raises:
        ValueError: No student, or not one step for each revision.
    """
    lengths = {len(of_student) for of_student in infos.values()}
    if lengths != {len(steps)}:
        raise ValueError(
            f"{len(steps)} steps but {sorted(lengths) or 'no'} revisions of the students: give one of each."
        )
    figure = new_figure(1200, 950)
    above, below = figure.subplots(2, 1, sharex=True)
    for place, (name, of_student) in enumerate(infos.items()):
        look: dict[str, Any] = {
            "color": series_colour(place),
            "linestyle": series_line_style(place),
            "linewidth": 1.6,
            "markersize": 3,
        }
        above.plot(steps, [info.forward_kl for info in of_student], marker="o", label=name, **look)
        below.plot(steps, [info.agreement for info in of_student], marker="o", **look)
    above.set_ylim(bottom=0)
    above.legend(frameon=False, fontsize=8)
    style_axes(above, title="Distance of the students from each revision", y_label="KL(teacher‖student), nats")
    style_axes(below, title="Agreement with each revision", x_label="teacher step", y_label="share of equal arg-max")
    step_axis(below)
    return save_figure(figure, path)


def plot_calibration(infos: Mapping[str, CalibrationInfo], path: str | Path) -> Path:
    """Draw accuracy over confidence, bin by bin, for each model: below the diagonal it is too sure of itself.

    Bins with less than 1 % of the rows are left out, because their accuracy is chance.

    Args:
        infos: What `calibration_info` returned for each model.
        path: PNG file to write (900 × 900 pixels).
    """
    figure = new_figure(900, 900)
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    for place, (name, info) in enumerate(infos.items()):
        filled = [index for index, count in enumerate(info.counts) if count >= _SMALLEST_BIN * info.rows]
        axes.plot(
            [info.bin_confidence[index] for index in filled],
            [info.bin_accuracy[index] for index in filled],
            marker="o",
            markersize=4,
            color=series_colour(place),
            linestyle=series_line_style(place),
            linewidth=1.4,
            label=f"{name} ({info.error:.3f})",
        )
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=8, title="calibration error", title_fontsize=8, loc="upper left")
    style_axes(axes, title="Can its probabilities be believed?", x_label="confidence", y_label="accuracy")
    return save_figure(figure, path)


def _kl(first: Tensor, second: Tensor) -> Tensor:
    """KL(first‖second) of log-probabilities; a class that `first` rules out adds nothing. Shapes: (R, V) -> (R,)."""
    probability = first.exp()
    return torch.where(probability > 0, probability * (first - second), 0.0).sum(-1)


def _check_logits(logits: Tensor, whose: str) -> None:
    if logits.dim() != 2 or logits.shape[-1] < 2:
        raise ValueError(
            f"expected the {whose}'s logits as (rows, classes) with two classes or more, got {tuple(logits.shape)}; "
            "agreement, KL and calibration are not defined for regression"
        )


def _at_least_one(rows: int) -> int:
    if not rows:
        raise ValueError("no rows to compare: the held-out data is empty or has no labelled position")
    return rows
