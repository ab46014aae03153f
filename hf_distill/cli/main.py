"""`hf-distill`: the commands and how errors are shown."""

from __future__ import annotations

import inspect
import logging
import sys

import typer

from hf_distill import __version__
from hf_distill.cli import analyze, cache, evaluate, plan, push, recipes, report, run, student, teachers
from hf_distill.cli.quiet import close_bars

VERBOSE = ("--verbose", "-v")
app = typer.Typer(
    name="hf-distill",
    help="Compress language models: students that learn from their teacher's own training checkpoints.\n\n"
    "Begin with [bold]hf-distill recipes[/bold], then [bold]hf-distill run parity/quickstart[/bold].",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
app.command("recipes")(recipes.recipes)
app.command("plan")(plan.plan)
app.command("run")(run.run)
app.command("evaluate")(evaluate.evaluate)
app.command("report")(report.report)
app.command("push")(push.push)
app.add_typer(teachers.app, name="teachers")
app.add_typer(student.app, name="student")
app.add_typer(cache.app, name="cache")
app.add_typer(analyze.app, name="analyze")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hf-distill {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Show the version."),
    verbose: bool = typer.Option(False, *VERBOSE, help="Also show what the library logs."),
) -> None:
    """Options of every command."""
    level = logging.INFO if verbose else logging.WARNING
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")


def fill_lines(group: typer.Typer) -> None:
    """Let paragraphs of help fill the terminal, examples one a line: typer keeps the line breaks of a docstring."""
    for command in group.registered_commands:
        paragraphs = (inspect.getdoc(command.callback) or "").split("\n\n")
        command.help = "\n\n".join(
            text.replace(" ·\n", "\n") if text.startswith("Example") else " ".join(text.split()) for text in paragraphs
        )
    for sub in group.registered_groups:
        if sub.typer_instance is not None:
            fill_lines(sub.typer_instance)


def main() -> None:
    """Run the command line; errors that are the user's, the disk's or the network's are shown without a traceback."""
    fill_lines(app)
    # The option is the command line's own, but one writes it where it comes to mind: after the command.
    verbose = [word for word in sys.argv[1:] if word in VERBOSE][:1]
    try:
        app(args=verbose + [word for word in sys.argv[1:] if word not in VERBOSE])
    except (ValueError, OSError) as error:
        close_bars()
        typer.secho(f"Error: {error}", fg="red", err=True)
        if verbose:
            raise
        sys.exit(2)


if __name__ == "__main__":
    main()
