"""What a recipe asks of its models once they are finished: `report: {analyses: [...]}`."""

from __future__ import annotations

import logging
from pathlib import Path

from accelerate import PartialState

from hf_distill.evaluation.evaluate import evaluate_run
from hf_distill.pipeline.analyses.sensitivity import analyze_sensitivity, curve_metric
from hf_distill.pipeline.finished_run import FinishedRun
from hf_distill.pipeline.kept_files import read_kept
from hf_distill.recipe.recipe import Recipe
from hf_distill.report.beside import write_evaluation_tables
from hf_distill.report.contributions import ANSWER

logger = logging.getLogger(__name__)


def ask_after_run(recipe: Recipe) -> None:
    """Make the analyses that a recipe's report shows, each with its default settings; what is there is kept.

    Args:
        recipe: Its students are finished.
    """
    if not recipe.report.analyses or not recipe.curricula():
        return
    if PartialState().num_processes > 1:
        logger.warning(
            "report.analyses are not made in a run of several processes; afterwards, in one process: hf-distill "
            "evaluate %s, hf-distill analyze sensitivity %s",
            recipe.output_dir,
            recipe.output_dir,
        )
        return
    run = FinishedRun(recipe)
    for name in recipe.report.analyses:
        if name == "evaluation":
            write_evaluation_tables(evaluate_run(run), run.workspace.root)
        elif not _asked_of_all(run):
            analyze_sensitivity(run)


def _asked_of_all(run: FinishedRun) -> bool:
    """Whether the answer about sensitivity is there, newer than every student, and of the metric that is asked for."""
    file = run.workspace.root / ANSWER
    if not file.is_file():
        return False
    answer = read_kept(file, dict)
    asked = {(model["curriculum"], model["seed"]) for model in answer["models"]}
    students = [run.workspace.student(cell.label, cell.seed) for cell in run.student_cells()]
    newest = max((_written(student) for student in students), default=0.0)
    current = answer["settings"]["metric"] == curve_metric(run.task) and file.stat().st_mtime >= newest
    return current and asked >= {(cell.label, cell.seed) for cell in run.student_cells()}


def _written(student: Path) -> float:
    return max(file.stat().st_mtime for file in student.iterdir())
