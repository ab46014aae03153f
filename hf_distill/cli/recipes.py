"""`hf-distill recipes`: what comes with the package."""

from __future__ import annotations

import typer


def recipes() -> None:
    """List the recipes that come with hf_distill; run one by its name."""
    from rich.console import Console
    from rich.table import Table

    from hf_distill.recipe import available_recipes

    table = Table("recipe", "what it does", "paper", box=None, pad_edge=False)
    for name, description, paper in available_recipes():
        table.add_row(name, description or "", paper or "")
    if not table.row_count:
        raise ValueError("no recipes are installed beside the package; run a YAML file of your own")
    Console().print(table)
    typer.echo("\nRun one with: hf-distill run NAME")
