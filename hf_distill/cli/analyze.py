"""`hf-distill analyze`: questions asked of a run's models after training."""

from __future__ import annotations

import math
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hf_distill.pipeline.analyses.answers import Answer
    from hf_distill.pipeline.finished_run import FinishedRun

app = typer.Typer(
    help="Look into a run's models. Numbers (JSON) and pictures (PNG) are written to output_dir/analysis.",
    no_args_is_help=True,
)


class Which(str, Enum):
    """Whose models are looked at."""

    all = "all"
    teacher = "teacher"
    students = "students"


Run = Annotated[str, typer.Argument(help="The output_dir of a run, or its recipe.", metavar="RUN")]
Of = Annotated[Which, typer.Option("--of", help="Whose models.")]
Revisions = Annotated[
    list[str] | None,
    typer.Option("--revision", "-r", metavar="PATTERN", help="Only these revisions of the teacher; may be repeated."),
]
Set = Annotated[list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change a key of the recipe.")]


@app.command("influence")
def influence(
    run: Run,
    of: Of = Which.all,
    revision: Revisions = None,
    examples: Annotated[int, typer.Option(help="Random inputs.", min=1)] = 4000,
    order: Annotated[int, typer.Option(help="Correlations with products of up to so many coordinates.", min=1)] = 1,
    set_: Set = None,
) -> None:
    """Sparse parity: which coordinates decide the answer, in the support and outside, revision by revision.

    Example: [bold]hf-distill analyze influence runs/parity-quickstart --of teacher --order 4[/bold]
    """
    opened = _open(run, set_)
    from hf_distill.pipeline.analyses.influence import analyze_influence

    _show(analyze_influence(opened, which=of.value, revisions=revision or (), examples=examples, order=order))


@app.command("fidelity")
def fidelity(
    run: Run,
    revision: Revisions = None,
    examples: Annotated[int | None, typer.Option(help="Held-out examples; all by default.", min=1)] = None,
    bins: Annotated[int, typer.Option(help="Confidence bins of the calibration error.", min=1)] = 15,
    set_: Set = None,
) -> None:
    """Students beside their teacher: agreement, KL to each revision, expected calibration error.

    Example: [bold]hf-distill analyze fidelity runs/parity-quickstart -r 'checkpoint-4*' -r final[/bold]
    """
    opened = _open(run, set_)
    from hf_distill.pipeline.analyses.fidelity import analyze_fidelity

    _show(analyze_fidelity(opened, revisions=revision or (), examples=examples, bins=bins))


@app.command("sensitivity")
def sensitivity(
    run: Run,
    of: Of = Which.all,
    revision: Revisions = None,
    batches: Annotated[int, typer.Option(help="Training batches.", min=1)] = 50,
    examples: Annotated[int | None, typer.Option(help="Held-out examples; all by default.", min=1)] = None,
    set_: Set = None,
) -> None:
    """How evenly parameters contribute, and the pruning curve; of the final teacher and every student.

    Example: [bold]hf-distill analyze sensitivity runs/parity-quickstart --of students[/bold]
    """
    opened = _open(run, set_)
    from hf_distill.pipeline.analyses.sensitivity import analyze_sensitivity

    _show(analyze_sensitivity(opened, which=of.value, revisions=revision or (), batches=batches, examples=examples))


@app.command("ngrams")
def ngrams(
    run: Run,
    of: Of = Which.all,
    revision: Revisions = None,
    examples: Annotated[int, typer.Option(help="Held-out texts.", min=1)] = 128,
    position: Annotated[
        list[int] | None, typer.Option("--position", help="Where to ask; 30, 60, … by default; may be repeated.")
    ] = None,
    attend_masked: Annotated[
        bool | None,
        typer.Option(
            "--attend-masked/--hide-masked",
            help="Whether hidden tokens can be attended to; by default as in training.",
        ),
    ] = None,
    set_: Set = None,
) -> None:
    """Language models: how much answers lean on the nearest tokens (M_robust) and on all others (M_close).

    Example: [bold]hf-distill analyze ngrams runs/bert-python-docs --examples 64[/bold]
    """
    opened = _open(run, set_)
    from hf_distill.analysis.ngram_reliance import POSITIONS
    from hf_distill.pipeline.analyses.ngrams import analyze_ngrams

    answer = analyze_ngrams(
        opened,
        which=of.value,
        revisions=revision or (),
        examples=examples,
        positions=position or POSITIONS,
        attend_masked=attend_masked,
    )
    _show(answer)


@app.command("nonterminals")
def nonterminals(
    run: Run,
    of: Of = Which.all,
    revision: Revisions = None,
    train_sentences: Annotated[int, typer.Option(help="Sentences the probe is trained on.", min=1)] = 10_240,
    examples: Annotated[int, typer.Option(help="Sentences the probe is asked about.", min=1)] = 4096,
    batch_size: Annotated[int, typer.Option(help="Of the probe's training.", min=1)] = 64,
    heads: Annotated[int, typer.Option(help="Attention heads of the probe.", min=1)] = 16,
    position_size: Annotated[int, typer.Option(help="Size of a position's vector, shared by the heads.", min=1)] = 256,
    epochs: Annotated[int, typer.Option(help="Passes over the training sentences.", min=1)] = 4,
    learning_rate: Annotated[float, typer.Option(help="Of the probe's training.")] = 0.01,
    seed: Annotated[int, typer.Option(help="Of the probe's first weights and order.")] = 0,
    set_: Set = None,
) -> None:
    """Grammars: can the non-terminals above each terminal be read off the last hidden layer? A linear probe.

    Example: [bold]hf-distill analyze nonterminals runs/pcfg-cfg3b-small --of students --epochs 2[/bold]
    """
    opened = _open(run, set_)
    from hf_distill.analysis.nonterminal_probe import ProbeSettings
    from hf_distill.pipeline.analyses.nonterminals import analyze_nonterminals

    answer = analyze_nonterminals(
        opened,
        which=of.value,
        revisions=revision or (),
        train_sentences=train_sentences,
        examples=examples,
        batch_size=batch_size,
        settings=ProbeSettings(
            heads=heads, position_size=position_size, epochs=epochs, learning_rate=learning_rate, seed=seed
        ),
    )
    _show(answer)


@app.command("views")
def views(
    run: Run,
    view: Annotated[
        list[str] | None, typer.Option("--view", help="Beside the recipe's; all that fit by default; may be repeated.")
    ] = None,
    steps: Annotated[int, typer.Option(help="Training batches.", min=2)] = 200,
    block: Annotated[int, typer.Option(help="Batches averaged to one value.", min=1)] = 5,
    seed: Annotated[int, typer.Option(help="Of the order of the examples and of the views.")] = 0,
    set_: Set = None,
) -> None:
    """How steady the final teacher's mean answers are under the recipe's augmented views and others (T. stddev).

    Example: [bold]hf-distill analyze views runs/views-digits --view cutout[/bold]
    """
    opened = _open(run, set_)
    from hf_distill.pipeline.analyses.views import analyze_views

    _show(analyze_views(opened, names=view or (), steps=steps, block=block, seed=seed))


def _open(run: str, overrides: list[str] | None) -> FinishedRun:
    from hf_distill.cli.quiet import quieten
    from hf_distill.pipeline.finished_run import FinishedRun

    quieten()
    return FinishedRun.open(run, overrides or [])


def _show(answer: Answer) -> None:
    from hf_distill.cli.describe import show_line
    from hf_distill.cli.tables import show_table

    show_table(
        answer.columns, [[cell if isinstance(cell, str) else _number(cell) for cell in row] for row in answer.rows]
    )
    for line in (answer.note, *(Path(file).as_posix() for file in answer.files)):
        show_line(line)


def _number(value: float | None) -> str:
    """At most six characters from 1e-9 to 99999, so that nine columns stand side by side."""
    if value is None or math.isnan(value):
        return "–"
    if 0 < abs(value) < 0.001:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.4g}"
