"""`hf-distill cache`: a teacher's targets, written once, compared and pushed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from hf_distill.cache.comparison import CodecComparison
    from hf_distill.cache.targets import Caching

WRITE = "write"


class WriteByDefault(TyperGroup):
    """A group whose first word is a recipe, unless it is one of its commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command that writes in front of a recipe."""
        if args and args[0] not in self.commands and args[0] != "--help":
            args = [WRITE, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=WriteByDefault,
    help="A teacher's targets, paid for once: write them, compare codecs, push them.\n\n"
    "[bold]hf-distill cache RECIPE[/bold] is short for [bold]hf-distill cache write RECIPE[/bold].",
    no_args_is_help=True,
)


@app.command(WRITE)
def write(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a recipe that comes with hf_distill.")],
    codec: Annotated[
        Literal["logits", "hidden", "top_k"] | None,
        typer.Option(
            help="What is kept of a row: all logits (classes), the hidden state before the output layer (exact "
            "divergences), or the likeliest ids. By default logits for classes and hidden for vocabularies."
        ),
    ] = None,
    k: Annotated[int | None, typer.Option("--k", help="How many ids top_k keeps; 64 by default.")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            help="Number format: logits float32, bfloat16, float16; hidden also int8; top_k float16, float32."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the cache; targets in output_dir by default.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change a key; may be repeated.")
    ] = None,
) -> None:
    """Write what all students of a recipe will ask their teacher, each example for the revision of its own stage.

    Nothing is trained but a teacher that the recipe trains itself. Stopped and started again, it goes on where it
    was; a recipe that grew adds what is missing. Read it with [bold]--set teacher.cached=true[/bold].

    Examples: [bold]hf-distill cache parity/quickstart[/bold] ·
    [bold]hf-distill cache my.yaml --codec top_k --k 128 --output targets[/bold] ·
    [bold]accelerate launch --num_processes 4 -m hf_distill cache my.yaml[/bold]
    """
    from accelerate import PartialState

    from hf_distill.cli.quiet import quieten
    from hf_distill.pipeline.caching import cache_recipe, codec_spec
    from hf_distill.recipe.recipe import Recipe

    loaded = Recipe.load(recipe, overrides=set_ or [])
    quieten()
    spec = codec_spec(loaded, name=codec, k=k, dtype=dtype)
    done = cache_recipe(loaded, codec=spec, folder=output)
    if PartialState().is_main_process:
        folder = output if output is not None else Path(loaded.output_dir) / "targets"
        show_caching(done, folder, own=output is None)


@app.command("report")
def report(
    where: Annotated[str, typer.Argument(metavar="RECIPE|DIR", help="A recipe, or a cache that one was written for.")],
    batches: Annotated[int, typer.Option(help="Held-out batches to compare on.", min=1)] = 16,
    revision: Annotated[str | None, typer.Option(help="Revision of the teacher that speaks; the final one.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON file; codec_report.json in output_dir by default.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change a key; may be repeated.")
    ] = None,
) -> None:
    """Compare what each codec loses against the live teacher on held-out data, and for how many bytes.

    Example: [bold]hf-distill cache report language_models/bert_python_docs --batches 8[/bold]
    """
    from hf_distill.atomic import atomic_write_json
    from hf_distill.cli.describe import show_line
    from hf_distill.cli.outputs import check_output
    from hf_distill.cli.quiet import quieten
    from hf_distill.pipeline.codec_report import REPORT_FILE, codec_report, recipe_of

    quieten()
    if output is not None:
        check_output(output, folder=False)
    found = codec_report(where, set_ or [], batches=batches, revision=revision)
    file = output if output is not None else Path(recipe_of(where, set_ or []).output_dir) / REPORT_FILE
    atomic_write_json(file, found.to_dict())
    show_comparison(found)
    show_line(f"figures: {file}")


@app.command("push")
def push(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A finished cache.")],
    repo_id: Annotated[str, typer.Argument(metavar="ORG/NAME", help="Data set; made where it does not exist.")],
    private: Annotated[
        bool, typer.Option("--private", help="Make it private; refuse a data set that is public.")
    ] = False,
    license: Annotated[str | None, typer.Option(help="License of the targets, an id of the Hub such as mit.")] = None,
) -> None:
    """Push a cache as a data set with a card; read it with [bold]teacher.cached: ORG/NAME[/bold].

    Cut off, the same command goes on where it was. The token is the one of [bold]hf auth login[/bold] or HF_TOKEN.

    Example: [bold]hf-distill cache push runs/parity-quickstart/targets org/parity-targets --private[/bold]
    """
    from hf_distill.cache.publish import push_cache
    from hf_distill.cli.pushing import revision_bar, said_plainly
    from hf_distill.hub.hub_writer import HubWriter

    writer = HubWriter(repo_id, repo_type="dataset")
    with said_plainly(), revision_bar("Pushing") as advance:
        pushed = push_cache(folder, writer, private=private, license=license, on_files=advance)
    typer.echo(f"{repo_id} {'is pushed' if pushed.new else 'held it already'}: commit {pushed.commit}")
    typer.echo(f"Read it with: --set teacher.cached={repo_id}@{pushed.commit}")


def show_caching(done: Caching, folder: Path, *, own: bool) -> None:
    """Show what a cache holds, what it took and when it pays.

    Args:
        done: What was written.
        folder: Where.
        own: Whether it is the recipe's own folder for targets.
    """
    from hf_distill.cache.codecs import CODECS
    from hf_distill.cli.describe import show_line, size_text
    from hf_distill.cli.tables import show_table

    manifest, rows = done.manifest, []
    for revision in manifest.revisions:
        shards = [shard for shard in manifest.shards if shard.commit == revision["commit"]]
        head = manifest.head_file(revision["commit"])
        if shards:
            counts = (sum(shard.examples for shard in shards), sum(shard.rows for shard in shards))
            size = sum(shard.size for shard in shards) + (head.size if head is not None else 0)
            rows.append([revision["name"], *(f"{count:,}" for count in counts), size_text(size)])
    show_table(["revision", "examples", "rows", "size"], rows)
    codec = CODECS.build(manifest.settings.codec, path="codec")
    stored = sum(shard.size for shard in manifest.shards) / max(manifest.rows, 1)
    show_line(f"codec: {codec.title()}; {stored:,.0f} bytes a row with its address, {size_text(manifest.size)} in all")
    show_line(f"{done.forwarded:,} examples went through the teacher now, in {done.seconds:.1f} s; {break_even(done)}")
    show_line(f"targets: {folder}")
    show_line(f"read them with: --set teacher.cached={'true' if own else folder}")


def break_even(done: Caching) -> str:
    """Return in words when a cache has saved as many teacher forwards as it took."""
    distinct, visited = done.manifest.examples, done.visited
    if not visited:
        return "its students ask nothing"
    runs = distinct / visited
    asked = f"its students ask {visited:,} times for {distinct:,} targets"
    if runs < 1:
        return f"{asked}, so the cache pays within the first run ({1 - runs:.0%} of the teacher's work is saved)"
    return f"{asked}, so the cache pays from run {int(runs) + 1} on"


def show_comparison(found: CodecComparison) -> None:
    """Show the codecs side by side, those that no other beats marked."""
    from hf_distill.cli.describe import show_line
    from hf_distill.cli.tables import show_table

    rows = [
        [
            figure.codec,
            f"{figure.bytes_per_row:,.0f}",
            f"{figure.share_of_dense:.2%}",
            f"{figure.kl:.2e}",
            f"{figure.kl_max:.2e}",
            f"{figure.total_variation:.2e}",
            f"{figure.kl_per_byte:.2e}",
            "←" if figure.on_front else "",
        ]
        for figure in found.figures
    ]
    heads = ["codec", "bytes a row", "of dense", "KL, mean", "KL, worst", "total variation", "KL / byte", "best"]
    show_table(heads, rows)
    show_line(
        f"{found.rows:,} held-out rows of {found.vocabulary:,} outputs, revision {found.revision}; the teacher's own "
        f"entropy is {found.entropy:.3g} nats. Dense: bfloat16 logits. ←: no other is both smaller and nearer."
    )
