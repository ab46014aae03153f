"""`hf-distill evaluate`: quality, fidelity and cost of a run's models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hf_distill.evaluation.record import Evaluation
    from hf_distill.pipeline.finished_run import FinishedRun


def evaluate(
    run: Annotated[str, typer.Argument(help="The output_dir of a run, or its recipe.", metavar="RUN")],
    batch_size: Annotated[
        list[int] | None,
        typer.Option(
            "--batch-size", "-b", help="Examples of a timed batch; 1 and 16 by default; may be repeated.", min=1
        ),
    ] = None,
    length: Annotated[
        int | None, typer.Option(help="Tokens of every timed example; by default as examples come.", min=1)
    ] = None,
    repeats: Annotated[int, typer.Option(help="Timed forwards of each model and batch size.", min=1)] = 20,
    baseline: Annotated[
        list[str] | None,
        typer.Option("--baseline", metavar="MODEL", help="A folder or Hub id to compare with; may be repeated."),
    ] = None,
    lm_eval: Annotated[
        str | None,
        typer.Option("--lm-eval", metavar="TASKS", help="Causal LMs: tasks of the package lm-eval, as in a,b,c."),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Examples of each lm-eval task; all by default.", min=1)] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change a key of the recipe.")
    ] = None,
) -> None:
    """Measure quality, fidelity to the teacher and cost of a run's teacher, students and baselines.

    Quality is the task's own metrics; fidelity is agreement, KL and calibration error; cost is parameters, bytes on
    disk, latency and throughput. The table lies in the run's folder as evaluation.json, .csv and .md, and its report
    shows it with a Pareto picture. Called again, it measures only what is new.

    Examples: [bold]hf-distill evaluate runs/bert-python-docs --length 64[/bold] ·
    [bold]hf-distill evaluate runs/mrpc --baseline org/other-student --batch-size 1 --batch-size 32[/bold]
    """
    from hf_distill.cli.describe import show_line
    from hf_distill.cli.quiet import quieten
    from hf_distill.evaluation.evaluate import evaluate_run
    from hf_distill.evaluation.record import EvaluationSettings
    from hf_distill.pipeline.finished_run import FinishedRun

    quieten()
    sizes = tuple(batch_size) if batch_size else EvaluationSettings.batch_sizes
    settings = EvaluationSettings(batch_sizes=sizes, length=length, repeats=repeats)
    opened = FinishedRun.open(run, set_ or [])
    tasks = [task.strip() for task in (lm_eval or "").split(",") if task.strip()]
    found = evaluate_run(opened, settings, baselines=baseline or (), lm_eval=tasks, limit=limit)
    for file in _show_and_write(found, opened):
        show_line(file)


def _show_and_write(found: Evaluation, opened: FinishedRun) -> list[str]:
    """Show the table; return the files that hold it."""
    from hf_distill.cli.describe import show_line
    from hf_distill.cli.tables import show_table
    from hf_distill.evaluation.record import FILE_NAME
    from hf_distill.report.beside import write_evaluation_tables
    from hf_distill.report.evaluation_rows import evaluated_cells, evaluated_headers, evaluated_note, evaluated_table
    from hf_distill.report.page import write_report
    from hf_distill.run_record import FILE_NAME as RECORD_FILE
    from hf_distill.run_record import RunRecord

    table, root = evaluated_table(found), opened.workspace.root
    show_table(evaluated_headers(table), evaluated_cells(table))
    show_line(evaluated_note(table))
    files = [root / FILE_NAME, *write_evaluation_tables(found, root)]
    if opened.recipe.report.enabled and (root / RECORD_FILE).is_file():
        files.append(write_report(RunRecord.load(root), root))
    return [file.as_posix() for file in files]
