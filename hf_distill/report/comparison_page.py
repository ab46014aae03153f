"""The page of a comparison of runs, its pictures and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_distill.analysis.drawing import series_colour
from hf_distill.atomic import atomic_write_text
from hf_distill.redaction import without_secrets
from hf_distill.report.comparison import (
    Block,
    ComparedRun,
    blocks_of,
    compared_cells,
    compared_csv,
    compared_headers,
    compared_markdown,
    compared_pareto,
    read_runs,
    reasons_apart,
)
from hf_distill.report.pareto import plot_pareto
from hf_distill.report.rendering import Picture, Section, embedded, render_page
from hf_distill.report.wording import command_line, number, words
from hf_distill.versions import package_versions

FILE_NAME = "comparison.html"


def write_comparison(places: Sequence[str | Path], folder: str | Path, *, title: str | None = None) -> Path:
    """Write comparison.html, comparison.csv, comparison.md and a Pareto picture a block into a folder.

    Runs that measured the same thing stand in one table; others in blocks of their own, with the reason.

    Args:
        places: Folders of runs, or their run_record.json; two or more.
        folder: Made if it does not exist.
        title: Head of the page.

    Returns:
        The path of the page.

    Raises:
        ValueError: Fewer than two runs, the same one twice, or one that cannot be read.
    """
    if len(places) < 2:
        raise ValueError(f"a comparison needs two runs or more, got {len(places)}")
    target, runs = Path(folder), read_runs(places)
    blocks = blocks_of(runs)
    reasons = reasons_apart(blocks, runs)
    pictures = [_draw(block, target, place) for place, block in enumerate(blocks, 1)]
    atomic_write_text(target / "comparison.csv", compared_csv(blocks))
    texts = [f"## {heading(block)}\n\n{compared_markdown(block)}" for block in blocks]
    atomic_write_text(target / "comparison.md", "\n".join([*texts, *(f"{reason}\n" for reason in reasons)]))
    page = render_page(
        "comparison.html.jinja",
        title=title or f"{len(runs)} runs side by side",
        generator=f"hf_distill {package_versions()['hf-distill']}",
        lead=" ".join(map(best_of, blocks)),
        blocks=[(heading(block), _section(block), picture) for block, picture in zip(blocks, pictures, strict=True)],
        reasons=reasons,
        commands=[(run.name, _command(run)) for run in runs],
    )
    return atomic_write_text(target / FILE_NAME, page)


def heading(block: Block) -> str:
    """Return what a block's numbers are of: the metric and the runs."""
    return f"Held-out {words(block.metric)}: {', '.join(block.runs)}"


def best_of(block: Block) -> str:
    """Say which student of a block is best, and how far the next run's best is behind."""
    students = [row for row in block.rows if row.summary is not None and row.metric is not None]
    if not students:
        return "No student was trained."
    best = students[0]
    text = f"Best {words(block.metric)}: {best.label} of {best.run}, {number(best.metric)}"
    other = next((row for row in students if row.run != best.run), None)
    return (
        f"{text}."
        if other is None
        else f"{text}; best of the others: {other.label} of {other.run}, {number(other.metric)}."
    )


def _section(block: Block) -> Section:
    colours = [None if row.place is None else series_colour(row.place) for row in block.rows]
    return Section(
        compared_headers(block), list(zip(colours, compared_cells(block), strict=True)), " ".join(block.notes)
    )


def _draw(block: Block, folder: Path, place: int) -> Picture | None:
    info = compared_pareto(block)
    if not info.points:
        return None
    file = plot_pareto(info, folder / f"pareto_{place}.png")
    return embedded(file, f"Held-out {words(block.metric)} of all models of a block against {info.cost}")


def _command(run: ComparedRun) -> str:
    return command_line(without_secrets(run.record.command))
