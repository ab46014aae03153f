"""`hf-distill recipes`: what comes with the package."""

from __future__ import annotations

import typer


def recipes() -> None:
    """List the recipes that come with hf_distill; run one by its name."""
    from hf_distill.cli.tables import show_table
    from hf_distill.recipe.recipe import available_recipes

    rows = [[one.name, " · ".join(filter(None, [one.description, one.paper]))] for one in available_recipes()]
    if not rows:
        raise ValueError("no recipes are installed beside the package; run a YAML file of your own")
    show_table(["recipe", "what it does · paper"], rows)
    typer.echo("\nRun one with: hf-distill run NAME")
