"""`hf-distill push`: a student, or one that was fine-tuned, goes to the Hub."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer


def push(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="The output_dir of a run, with its run_record.json.")],
    repo_id: Annotated[str, typer.Argument(metavar="ORG/NAME", help="Repository; made where it does not exist.")],
    finetuned: Annotated[
        str | None,
        typer.Option(metavar="BLOCK", help="Push a model fine-tuned on this task of the recipe's `finetune:`."),
    ] = None,
    curriculum: Annotated[
        str | None,
        typer.Option(
            help="Label of the student's curriculum; with --finetuned also from_scratch, teacher, student. That of "
            "the best student otherwise."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Its seed; that of the best student otherwise.")] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make it private; refuse a repository that is public.")
    ] = False,
    license: Annotated[
        str | None, typer.Option(help="License, an id of the Hub such as mit; that of the base models otherwise.")
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Language of the data for the card, as en; may be repeated.")
    ] = None,
) -> None:
    """Push one student with its card, its run record and the learning curves, in one commit.

    The best student by the run's own metric is chosen where none is named; with --finetuned the best fine-tuned
    student by that task's metric, and a baseline only by its label. Pushed after the student it was made from, a
    fine-tuned model's card names that one's repository as its base model. Weights, tokenizer and configurations are
    pushed; teacher, projectors, optimizer and checkpoints are not. The token is the one of [bold]hf auth login[/bold]
    or HF_TOKEN.

    Examples: [bold]hf-distill push runs/parity-quickstart org/parity-student --private[/bold] ·
    [bold]hf-distill push runs/parity-quickstart org/parity-student --curriculum two_shot --seed 1[/bold] ·
    [bold]hf-distill push runs/downstream-bert-python-docs org/mrpc-student --finetuned mrpc[/bold]
    """
    from hf_distill.cli.pushing import said_plainly
    from hf_distill.hub.hub_writer import HubWriter
    from hf_distill.hub.push import choose_finetuned, choose_student, push_finetuned, push_student
    from hf_distill.run_record import RunRecord

    record, writer = RunRecord.load(run_dir), HubWriter(repo_id)
    if finetuned is None:
        reason = choose_student(record, curriculum=curriculum, seed=seed).reason
        push_model = partial(push_student, run_dir, writer)
    else:
        reason = choose_finetuned(record, finetuned, curriculum=curriculum, seed=seed).reason
        push_model = partial(push_finetuned, run_dir, writer, finetuned)
    typer.echo(f"Pushing {reason}")
    with said_plainly():
        pushed = push_model(curriculum=curriculum, seed=seed, private=private, license=license, language=language)
    typer.echo(f"{repo_id} {'is pushed' if pushed.new else 'held it already'}: commit {pushed.commit}")
