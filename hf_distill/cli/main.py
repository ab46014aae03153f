"""`hf-distill`: the commands and how errors are shown."""

from __future__ import annotations

import logging
import sys

import typer

from hf_distill import __version__
from hf_distill.cli import analyze, plan, push, recipes, report, run, teachers

app = typer.Typer(
    name="hf-distill",
    help="Compress language models: students that learn from their teacher's own training checkpoints.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command("run")(run.run)
app.command("plan")(plan.plan)
app.command("report")(report.report)
app.command("recipes")(recipes.recipes)
app.command("push")(push.push)
app.add_typer(teachers.app, name="teachers")
app.add_typer(analyze.app, name="analyze")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hf-distill {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
    verbose: bool = typer.Option(False, "--verbose", "-v", help="Also show what the library logs."),
) -> None:
    """Options of every command."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


def main() -> None:
    """Run the command line; errors that are the user's, the disk's or the network's are shown without a traceback."""
    try:
        app()
    except (ValueError, OSError) as error:
        typer.secho(f"Error: {error}", fg="red", err=True)
        if "--verbose" in sys.argv or "-v" in sys.argv:
            raise
        sys.exit(2)


if __name__ == "__main__":
    main()
