"""`hf-distill teachers`: look at a teacher's revisions and choose one."""

from __future__ import annotations

from typing import Annotated

import typer

from hf_distill.cli.publish import publish

app = typer.Typer(help="A teacher's revisions: list them, score them, choose one, publish.", no_args_is_help=True)


@app.command("list")
def list_(
    spec: Annotated[
        str,
        typer.Argument(
            metavar="TEACHER",
            help="A folder with checkpoint-*, 'org/model@step*', 'org/model@main~*' (its history), or one model.",
        ),
    ],
    every: Annotated[int, typer.Option("--every", metavar="N", help="Every N-th revision, and the last one.")] = 1,
    first: Annotated[str | None, typer.Option("--first", help="Name or step of the first revision.")] = None,
    last: Annotated[str | None, typer.Option("--last", help="Name or step of the last revision.")] = None,
    cache_dir: Annotated[str | None, typer.Option("--cache-dir", help="The Hub cache to look into.")] = None,
) -> None:
    """Show a teacher's revisions: step, commit or content hash, date, size, and whether they are on disk.

    Examples: [bold]hf-distill teachers list runs/parity-quickstart/teacher[/bold] ·
    [bold]hf-distill teachers list 'org/model@step*' --every 2 --first step100[/bold] ·
    [bold]hf-distill teachers list 'org/model@main~*'[/bold]
    """
    from hf_distill.cli.describe import show_revisions
    from hf_distill.teachers.listing import list_revisions
    from hf_distill.teachers.revisions import resolve

    mapping = {"revisions": spec, "every": every, "first": first, "last": last}
    revisions, notes = resolve(mapping, cache_dir=cache_dir)
    show_revisions(list_revisions(revisions, cache_dir=cache_dir), notes)


@app.command("score")
def score(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe: its task, its data and its teacher are used.")
    ],
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated."),
    ] = None,
) -> None:
    """Evaluate every revision on held-out data, draw the curve and name the revision in the sharp drop.

    A teacher that the recipe trains itself is trained first, if it is not there yet. Results are kept in
    output_dir/teacher_scores.json and teacher_scores.png; `two_shot` with `revision: auto` uses the same choice.

    Example: [bold]hf-distill teachers score parity/quickstart[/bold]
    """
    from hf_distill.cli.describe import show_scores
    from hf_distill.cli.quiet import quieten
    from hf_distill.pipeline.scoring import score_teacher
    from hf_distill.recipe.recipe import Recipe

    quieten()
    show_scores(score_teacher(Recipe.load(recipe, overrides=set_ or [])))


app.command("publish")(publish)
