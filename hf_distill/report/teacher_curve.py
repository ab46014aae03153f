"""The teacher's own way: held-out scores of its revisions, the chosen one marked."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from hf_distill.analysis.drawing import INK, MUTED, PALETTE, new_figure, save_figure, step_axis, style_axes
from hf_distill.report.wording import words
from hf_distill.run_record import RunRecord


class TeacherCurveInfo(NamedTuple):
    """Scores of the teacher's revisions in the order of training.

    `steps` count from 1 where the revisions have no step of their own (`numbered`). `scores` holds the task's metric
    first and the loss second, whichever exist; a score that is missing at a revision is None.
    """

    names: tuple[str, ...]
    steps: tuple[int, ...]
    numbered: bool
    scores: dict[str, tuple[float | None, ...]]
    chosen: int | None
    taught: tuple[int, ...]
    """Revisions that taught a student of this record."""


def teacher_curve_info(record: RunRecord) -> TeacherCurveInfo | None:
    """Gather the scores of a record's teacher; None if its revisions were not scored."""
    scores = record.teacher.get("scores") or []
    if not scores:
        return None
    numbered = any(score.get("step") is None for score in scores)
    if not numbered:
        scores = sorted(scores, key=lambda score: score["step"])
    names = tuple(str(score["name"]) for score in scores)
    wanted = dict.fromkeys((str(record.task["metric"]), "loss"))
    chosen = record.teacher.get("chosen")
    taught = {stage.revision for run in record.runs for stage in run.stages}
    return TeacherCurveInfo(
        names=names,
        steps=tuple(range(1, len(scores) + 1)) if numbered else tuple(int(score["step"]) for score in scores),
        numbered=numbered,
        scores={
            key: tuple(score.get(key) for score in scores)
            for key in wanted
            if any(score.get(key) is not None for score in scores)
        },
        chosen=names.index(chosen) if chosen in names else None,
        taught=tuple(index for index, name in enumerate(names) if name in taught),
    )


def plot_teacher_curve(info: TeacherCurveInfo, path: str | Path) -> Path:
    """Draw one panel a score, revisions that taught filled, the chosen one ringed and named.

    Args:
        info: What `teacher_curve_info` returned.
        path: PNG file to write (1500 × 570 pixels).
    """
    figure = new_figure(1500, 570)
    panels = figure.subplots(1, max(len(info.scores), 1), squeeze=False)[0]
    for axes, (key, values) in zip(panels, info.scores.items(), strict=False):
        known = [index for index, value in enumerate(values) if value is not None]
        axes.plot([info.steps[index] for index in known], [values[index] for index in known], color=MUTED, lw=1.4)
        for index in known:
            face = PALETTE[0] if index in info.taught else "white"
            axes.plot(info.steps[index], values[index], "o", color=PALETTE[0], mfc=face, markersize=4.5)
        if info.chosen in known:
            point = (info.steps[info.chosen], values[info.chosen])
            axes.plot(*point, "o", markersize=11, fillstyle="none", color=PALETTE[1], mew=2)
            # The text goes to the side that has room.
            right = point[0] > (info.steps[0] + info.steps[-1]) / 2
            axes.annotate(
                info.names[info.chosen],
                point,
                xytext=(-11 if right else 11, 0),
                textcoords="offset points",
                fontsize=8.5,
                fontweight="bold",
                color=INK,
                va="center",
                ha="right" if right else "left",
            )
        style_axes(
            axes,
            title=f"Teacher: held-out {words(key)}",
            x_label="revision, in order" if info.numbered else "teacher step",
        )
        step_axis(axes)
    return save_figure(figure, path)
