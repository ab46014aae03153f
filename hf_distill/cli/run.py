"""`hf-distill run`: the whole job of a recipe."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def run(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A YAML file, or the name of one: see hf-distill recipes.")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Continue what output_dir already holds of this recipe.")
    ] = True,
    check: Annotated[
        bool, typer.Option("--check", help="Only check recipe, models and data, and show what would be run.")
    ] = False,
) -> None:
    """Run a recipe: teacher, students, record, report, model cards.

    Stopped and started again, it continues where it was. Everything it leaves lies under the recipe's output_dir.

    Examples: [bold]hf-distill run parity/quickstart[/bold] ·
    [bold]hf-distill run my.yaml --set output_dir=runs/a --set training.learning_rate=5e-5[/bold] ·
    [bold]accelerate launch --num_processes 4 -m hf_distill run my.yaml[/bold]
    """
    from hf_distill.recipe.recipe import Recipe

    loaded = Recipe.load(recipe, overrides=set_ or [])
    from hf_distill.cli.describe import check_recipe, show_result
    from hf_distill.cli.quiet import quieten

    quieten()
    if check:
        check_recipe(loaded)
        return
    from accelerate import PartialState

    from hf_distill.pipeline.run import run_recipe

    record = run_recipe(loaded, command=["hf-distill", *sys.argv[1:]], resume=resume)
    if PartialState().is_main_process:
        show_result(record, loaded)
