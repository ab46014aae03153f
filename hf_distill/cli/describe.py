"""What the commands show on the terminal."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from hf_distill.pipeline.scoring import TeacherScores
    from hf_distill.recipe import Recipe
    from hf_distill.run_record import RunRecord
    from hf_distill.teachers.revisions import Revision


def check_recipe(recipe: Recipe) -> None:
    """Build everything a recipe needs without training, and show what it would run."""
    from hf_distill.pipeline.cells import cells_of, task_of
    from hf_distill.pipeline.checks import check_before_training
    from hf_distill.pipeline.workspace import Workspace

    cells = cells_of(recipe)
    Workspace(Path(recipe.output_dir)).claim(recipe, write=False)
    with tempfile.TemporaryDirectory() as scratch:
        check_before_training(recipe, task_of(recipe), Workspace(Path(scratch)), cells)
    table = Table("student", "seed", "curriculum", box=None, pad_edge=False)
    for cell in cells:
        table.add_row(cell.label, str(cell.seed), ", ".join(f"{k}={v}" for k, v in cell.curriculum.items()))
    Console().print(table)
    Console().print(f"The recipe is sound: {len(cells)} students would be trained into {recipe.output_dir}.")


def show_result(record: RunRecord, output_dir: str) -> None:
    """Show the table of a finished run and where its report lies."""
    console = Console()
    metric = record.task["metric"]
    level = record.task.get("level")
    columns = ["curriculum", f"{metric}, median", "min – max"]
    columns += [f"steps to {level:g}, median", "reached"] if level is not None else []
    table = Table(*columns, "seconds", title=record.name, title_justify="left", box=None, pad_edge=False)
    for row in record.summary():
        cells = [row["curriculum"], number(row["median"]), f"{number(row['min'])} – {number(row['max'])}"]
        if level is not None:
            reached = "not reached" if row["steps_to_level"] is None else f"{row['steps_to_level']:g}"
            cells += [reached, f"{row['reached']} of {len(row['seeds'])}"]
        table.add_row(*cells, number(row["seconds"]))
    console.print(table)
    final = record.teacher.get("final_metrics", {}).get(metric)
    if final is not None:
        console.print(f"teacher: {metric} {number(final)}; two-shot revision: {record.teacher.get('chosen') or '–'}")
    console.print(f"report: {Path(output_dir) / 'report.html'}")


def show_scores(scores: TeacherScores) -> None:
    """Show the score of each revision and the chosen one."""
    console = Console()
    keys = [key for key in scores.scores[0] if key not in ("name", "step")]
    table = Table("revision", "step", *keys, "", box=None, pad_edge=False)
    for score in scores.scores:
        mark = "← in the middle of the sharp drop" if score["name"] == scores.chosen else ""
        table.add_row(score["name"], str(score["step"]), *(number(score[key]) for key in keys), mark)
    console.print(table)
    console.print(scores.reason)
    console.print(f"picture: {scores.picture}" if scores.picture else "")


def revision_table(revisions: Sequence[Revision]) -> None:
    """Show revisions with their pins."""
    table = Table("revision", "step", "source", "commit", "on disk", box=None, pad_edge=False)
    for revision in revisions:
        size = _megabytes(revision.folder) if revision.folder is not None else "no"
        step = "–" if revision.step is None else str(revision.step)
        table.add_row(revision.name, step, revision.source, revision.commit[:19], size)
    Console().print(table)


def _megabytes(folder: Path) -> str:
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return f"{size / 1e6:.1f} MB"


def number(value: Any) -> str:
    """Return a number for people, "–" for none."""
    return "–" if value is None else f"{value:.4g}"
