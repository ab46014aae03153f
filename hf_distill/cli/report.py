"""`hf-distill report`: write the page of a run again from its record, or compare several runs on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="The output_dir of a run, or its run_record.json; several to compare."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where a comparison is written; a single run's page lies in the run.",
            show_default="runs/comparison",
        ),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
) -> None:
    """Write report.html, its pictures and its tables again from run_record.json, also of an unfinished run.

    Of several runs, one page with one table and one Pareto picture is written, as CSV and Markdown too. Runs that
    measured different things stand in tables of their own, with the reason.

    Examples: [bold]hf-distill report runs/parity-quickstart[/bold] ·
    [bold]hf-distill report runs/a runs/b runs/c --output runs/a-b-c[/bold]
    """
    if len(folders) > 1:
        from hf_distill.cli.outputs import check_output
        from hf_distill.report.comparison_page import write_comparison

        place = output if output is not None else Path("runs/comparison")
        check_output(place, folder=True)
        typer.echo(str(write_comparison(folders, place, title=title)))
        return
    if output is not None:
        raise ValueError(
            f"--output {output}: the page of a single run lies in the run; name several, or leave this out"
        )
    from hf_distill.report.page import write_report
    from hf_distill.run_record import RunRecord

    (folder,) = folders
    record = RunRecord.load(folder)
    typer.echo(str(write_report(record, folder if folder.is_dir() else folder.parent, title=title)))
