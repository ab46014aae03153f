"""`hf-distill report`: write the page of a run again from its record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="The output_dir of a run, or its run_record.json.")],
) -> None:
    """Write report.html, its pictures and its tables again from run_record.json, also of an unfinished run.

    Example: [bold]hf-distill report runs/parity-quickstart[/bold]
    """
    from hf_distill.report.page import write_report
    from hf_distill.run_record import RunRecord

    record = RunRecord.load(folder)
    typer.echo(str(write_report(record, folder if folder.is_dir() else folder.parent)))
