"""`hf-distill push`: a student goes to the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="The output_dir of a run, with its run_record.json.")],
    repo_id: Annotated[str, typer.Argument(metavar="ORG/NAME", help="Repository; made where it does not exist.")],
    curriculum: Annotated[
        str | None, typer.Option(help="Label of the student's curriculum; that of the best student otherwise.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Its seed; that of the best student otherwise.")] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make it private; refuse a repository that is public.")
    ] = False,
    license: Annotated[
        str | None, typer.Option(help="License, an id of the Hub such as mit; that of the base models otherwise.")
    ] = None,
) -> None:
    """Push one student with its card, its run record and the learning curves, in one commit.

    The best student by the run's own metric is chosen where none is named. Weights, tokenizer and configurations are
    pushed; teacher, projectors, optimizer and checkpoints are not. The token is the one of [bold]hf auth login[/bold]
    or HF_TOKEN.

    Examples: [bold]hf-distill push runs/parity-quickstart org/parity-student --private[/bold] ·
    [bold]hf-distill push runs/parity-quickstart org/parity-student --curriculum two_shot --seed 1[/bold]
    """
    from hf_distill.cli.pushing import said_plainly
    from hf_distill.hub.hub_writer import HubWriter
    from hf_distill.hub.push import choose_student, push_student
    from hf_distill.run_record import RunRecord

    choice = choose_student(RunRecord.load(run_dir), curriculum=curriculum, seed=seed)
    typer.echo(f"Pushing {choice.reason}")
    with said_plainly():
        pushed = push_student(
            run_dir, HubWriter(repo_id), curriculum=curriculum, seed=seed, private=private, license=license
        )
    typer.echo(f"{repo_id} {'is pushed' if pushed.new else 'held it already'}: commit {pushed.commit}")
