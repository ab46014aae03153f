"""`hf-distill teachers publish`: a training's checkpoints become revisions on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def publish(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN", help="A training's output folder with its checkpoint-*, or a recipe's.")
    ],
    repo_id: Annotated[str, typer.Argument(metavar="ORG/NAME", help="Repository; made where it does not exist.")],
    as_: Annotated[Literal["branch", "tag"], typer.Option("--as", help="What a revision is.")] = "branch",
    every: Annotated[int, typer.Option(help="Every n-th checkpoint from the first on; always the last.")] = 1,
    private: Annotated[
        bool, typer.Option("--private", help="Make it private; refuse a repository that is public.")
    ] = False,
    license: Annotated[str | None, typer.Option(help="License of the model, an id of the Hub such as mit.")] = None,
) -> None:
    """Push every checkpoint as a revision step-N, in order, then the finished model with a card to main.

    Cut off or killed, the same command goes on where it was; what the Hub holds already is left alone. Optimizer,
    random states and training arguments stay here. The token is the one of [bold]hf auth login[/bold] or HF_TOKEN.

    Example: [bold]hf-distill teachers publish runs/parity-quickstart/teacher org/parity-teacher --private[/bold]
    """
    from hf_distill.cli.pushing import revision_bar, said_plainly
    from hf_distill.hub.hub_writer import HubWriter
    from hf_distill.hub.publish import publish_teacher

    with said_plainly(), revision_bar("Publishing") as advance:
        published = publish_teacher(
            run_dir,
            HubWriter(repo_id),
            kind=as_,
            every=every,
            private=private,
            license=license,
            on_revision=lambda revision, done, total: advance(revision.name, done, total),
        )
    new = sum(revision.outcome == "pushed" for revision in published)
    typer.echo(f"{len(published)} revisions of {repo_id} are on the Hub, {new} of them pushed now.")
    typer.echo(f'Distil from them with: teacher: {{source: "{repo_id}@step-*"}}')
