"""What the analyses of a run share: asking every model, tables for people, numbers as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tqdm.auto import tqdm

from hf_distill.atomic import atomic_write_json
from hf_distill.pipeline.finished_run import FinishedRun, RunModel, Which

Info = TypeVar("Info")


class Answer(NamedTuple):
    """What an analysis shows: a table whose first column names the model, and where numbers and pictures lie."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    note: str
    files: list[Path]


class Asked(NamedTuple):
    """A model, no longer in memory, and what was measured on it."""

    model: RunModel
    info: Any


def places_to_ask(run: FinishedRun, which: Which, patterns: Sequence[str], *, final_only: bool = False) -> list[int]:
    """Return the places of the teacher's revisions to look at.

    Args:
        run: The run.
        which: "students" looks at no revision.
        patterns: Names or patterns of revisions.
        final_only: Without patterns, only the final revision instead of all.

    Raises:
        ValueError: The teacher alone is asked for and there is none, or a pattern matches nothing.
    """
    if which == "students" or (which == "all" and run.teacher is None and not patterns):
        return []
    places = run.revisions(patterns)
    return places[-1:] if final_only and not patterns else places


def ask_each(
    run: FinishedRun, which: Which, places: Sequence[int], measure: Callable[[RunModel], Info]
) -> list[Asked]:
    """Measure each model, one after the other.

    Raises:
        ValueError: There is no model.
    """
    count = len(places) + (len(run.student_cells()) if which != "teacher" else 0)
    if not count:
        what = "student" if which == "students" else "model"
        raise ValueError(f"{run.workspace.root} has no finished {what} to look at; `hf-distill run` its recipe first")
    models = tqdm(run.models(which, places), total=count, desc="Asking", unit="model")
    return [Asked(model._replace(model=None), measure(model)) for model in models]


def plot_steps(models: Sequence[RunModel]) -> list[int]:
    """Return a step for each of the teacher's revisions; by place, where a name but the last one tells no step."""
    steps = [model.step for model in models]
    if any(step is None for step in steps[:-1]):
        return list(range(1, len(steps) + 1))
    before = [step for step in steps if step is not None]
    return before if len(before) == len(steps) else [*before, before[-1] + 1 if before else 1]


def save_answer(run: FinishedRun, name: str, models: Sequence[dict[str, Any]], **settings: Any) -> Path:
    """Write numbers and settings as `output_dir/analysis/<name>.json`."""
    content = {"analysis": name, "run": run.recipe.name, "settings": settings, "models": models}
    return atomic_write_json(folder_of_answers(run) / f"{name}.json", content)


def folder_of_answers(run: FinishedRun) -> Path:
    """Return the folder for numbers and pictures."""
    return run.workspace.root / "analysis"


def identity(model: RunModel) -> dict[str, Any]:
    """Return the columns that say which model numbers belong to."""
    kind = "teacher" if model.curriculum is None else "student"
    return {"name": model.name, "kind": kind, "step": model.step, "curriculum": model.curriculum, "seed": model.seed}


def plain(value: Any) -> Any:
    """Return named tuples as mappings, so that JSON keeps their names."""
    if isinstance(value, tuple):
        items = [plain(item) for item in value]
        return items if type(value) is tuple else dict(zip(value._fields, items, strict=True))  # type: ignore[attr-defined]
    return value
