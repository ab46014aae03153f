"""What the commands show on the terminal."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from hf_distill.cli.tables import show_table
from hf_distill.recipe.finetune_spec import FROM_SCRATCH, STUDENT, TEACHER

if TYPE_CHECKING:
    from hf_distill.pipeline.scoring import TeacherScores
    from hf_distill.recipe.finetune_spec import FinetuneSpec
    from hf_distill.recipe.recipe import Recipe
    from hf_distill.run_record import RunRecord
    from hf_distill.teachers.listing import ListedRevision


def check_recipe(recipe: Recipe) -> None:
    """Build everything a recipe needs without training, and show what it would run."""
    from hf_distill.pipeline.cells import cells_of, task_of
    from hf_distill.pipeline.checks import check_before_training, check_keys
    from hf_distill.pipeline.workspace import Workspace
    from hf_distill.recipe.teaching import kind_of, roles

    task, cells = task_of(recipe), cells_of(recipe)
    check_keys(recipe)
    Workspace(Path(recipe.output_dir)).claim(recipe, write=False)
    with tempfile.TemporaryDirectory() as scratch:
        check_before_training(recipe, task, Workspace(Path(scratch)), cells)
    if recipe.teacher is not None and kind_of(recipe.teacher) != "teacher":
        show_table(["who", "model", "learns from"], [list(role) for role in roles(recipe.teacher)])
    seeds = ", ".join(map(str, recipe.seeds))
    curricula = {cell.label: ", ".join(f"{key}={value}" for key, value in cell.curriculum.items()) for cell in cells}
    if cells:
        show_table(["student", "seeds", "curriculum"], [[label, seeds, text] for label, text in curricula.items()])
    students = "1 student" if len(cells) == 1 else f"{len(cells)} students"
    fine_tunings = sum(len(beginnings(recipe, spec)) * len(spec.seeds or recipe.seeds) for spec in recipe.finetune)
    for spec in recipe.finetune:
        show_line(f"Fine-tuned on {spec.name}: {', '.join(beginnings(recipe, spec))}")
    trained = [*([students] if cells else []), *([f"{fine_tunings} fine-tunings"] if fine_tunings else [])]
    show_line(f"The recipe is sound: {' and '.join(trained)} would be trained into {recipe.output_dir}.")


def beginnings(recipe: Recipe, spec: FinetuneSpec) -> list[str]:
    """Return where the fine-tunings of a block begin, by their labels."""
    labels = list(recipe.curricula()) or [STUDENT]
    return [*labels, *([FROM_SCRATCH] if spec.from_scratch else []), *([TEACHER] if spec.teacher else [])]


def show_result(record: RunRecord, recipe: Recipe) -> None:
    """Show the table of a finished run and where its report lies, or its record where it has none."""
    metric = record.task["metric"]
    level = record.task.get("level")
    columns = ["curriculum", f"{metric}, median", "min – max"]
    columns += [f"steps to {level:g}, median", "reached"] if level is not None else []
    rows = []
    for row in record.summary():
        cells = [row["curriculum"], number(row["median"]), f"{number(row['min'])} – {number(row['max'])}"]
        if level is not None:
            reached = "not reached" if row["steps_to_level"] is None else f"{row['steps_to_level']:g}"
            cells += [reached, f"{row['reached']} of {len(row['seeds'])}"]
        rows.append([*cells, number(row["seconds"])])
    show_line(record.name)
    if rows:
        show_table([*columns, "seconds"], rows)
    final = record.teacher.get("final_metrics", {}).get(metric)
    if final is not None:
        chosen = record.teacher.get("chosen")
        show_line(f"teacher: {metric} {number(final)}" + (f"; two-shot revision: {chosen}" if chosen else ""))
    for block in record.downstream:
        show_downstream(record.finetuned(block.name), block.name)
    kind, file = ("report", "report.html") if recipe.report.enabled else ("record", "run_record.json")
    show_line(f"{kind}: {Path(recipe.output_dir) / file}")


def show_downstream(record: RunRecord, name: str) -> None:
    """Show the table of a downstream task, as a record of its own."""
    show_line(f"fine-tuned on {name}")
    rows = [
        [
            row["curriculum"],
            number(row["median"]),
            f"{number(row['min'])} – {number(row['max'])}",
            number(row["seconds"]),
        ]
        for row in record.summary()
    ]
    show_table(["from", f"{record.task['metric']}, median", "min – max", "seconds"], rows)


def show_scores(scores: TeacherScores) -> None:
    """Show the score of each revision and the chosen one."""
    keys = [key for key in scores.scores[0] if key not in ("name", "step")]
    rows = []
    for score in scores.scores:
        mark = "← in the sharp drop" if score["name"] == scores.chosen else ""
        rows.append([score["name"], step_text(score["step"]), *(number(score[key]) for key in keys), mark])
    show_table(["revision", "step", *keys, ""], rows)
    show_line(scores.reason)
    if scores.picture is not None:
        show_line(f"picture: {scores.picture}")


def show_revisions(listed: Sequence[ListedRevision], notes: Sequence[str] = ()) -> None:
    """Show revisions with their pins, what a download of them brings, and what a history left out.

    What all share, one source or that all are on disk, stands in the line below instead of a column.
    """
    sources = {one.revision.source for one in listed}
    missing = [one for one in listed if one.cached != "yes"]
    rows = []
    for one in listed:
        revision = one.revision
        date = "–" if one.date is None else f"{one.date:%Y-%m-%d %H:%M}"
        commit = revision.commit[:15] if revision.commit.startswith("sha256:") else revision.commit[:12]
        row = {"revision": revision.name, "step": step_text(revision.step)}
        row |= {"source": revision.source} if len(sources) > 1 else {}
        row |= {"commit": commit, "date": date, "size": size_text(one.size)}
        rows.append(row | ({"cached": one.cached} if missing else {}))
    show_table(list(rows[0]), [list(row.values()) for row in rows])
    of = f" of {sources.pop()}" if len(sources) == 1 else ""
    revisions = "1 revision" if len(listed) == 1 else f"{len(listed)} revisions"
    total, coming = (size_text(sum(one.size for one in some)) for some in (listed, missing))
    there = f"{len(missing)} not whole in the cache, {coming}" if missing else "all on disk"
    show_line(f"{revisions}{of}, {total}; {there}")
    for note in notes:
        show_line(note)


def show_line(text: str) -> None:
    """Show a line as it is: a path stays in one piece, and its brackets are no markup."""
    Console().print(text, markup=False, soft_wrap=True)


def size_text(size: int) -> str:
    """Return a number of bytes for people, in powers of ten."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def step_text(step: int | None) -> str:
    """Return an optimizer step for people, all of its digits, "–" for none."""
    return "–" if step is None else str(step)


def number(value: Any) -> str:
    """Return a number for people, "–" for none."""
    return "–" if value is None else f"{value:.4g}"
