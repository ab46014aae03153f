"""`hf-distill student`: students cut out of their teachers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hf_distill.student_making.origin import StudentOrigin

app = typer.Typer(help="Students cut out of their teachers: some layers, some of the width.", no_args_is_help=True)
_LAYERS = "first:3, last:3, spaced:3, cka:3, sensitivity:3, or numbers counted from 1, as in 2,4,6; all by default."


class Choose(str, Enum):
    """Which units stay."""

    first = "first"
    norm = "norm"
    sensitivity = "sensitivity"


@app.command("make")
def make(
    teacher: Annotated[str, typer.Argument(metavar="TEACHER", help="A folder, org/model or org/model@revision.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for the student; it must not be there yet.")],
    layers: Annotated[str | None, typer.Option(help=_LAYERS)] = None,
    decoder_layers: Annotated[
        str | None, typer.Option(help="Of an encoder-decoder's decoder, where it is not as --layers.")
    ] = None,
    hidden_size: Annotated[int | None, typer.Option(help="Width of the hidden states.", min=1)] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads of a layer; they keep their size.", min=1)] = None,
    ffn: Annotated[int | None, typer.Option("--ffn", help="Neurons of a feed-forward layer.", min=1)] = None,
    choose: Annotated[
        Choose,
        typer.Option(help="Units that stay: the first, those of the largest weights, or those the loss feels most."),
    ] = Choose.first,
    recipe: Annotated[
        str | None, typer.Option(help="Whose training data cka and sensitivity look at.", metavar="RECIPE")
    ] = None,
    examples: Annotated[int, typer.Option(help="Training examples that they look at.", min=1)] = 256,
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change a key of the recipe.")
    ] = None,
) -> None:
    """Cut a student out of a teacher's weights: fewer layers, fewer heads, neurons and hidden units.

    The folder loads with plain transformers, has the teacher's tokenizer, and says in student_origin.json who the
    teacher was and what was kept. For BERT, RoBERTa, XLM-R, CamemBERT, DistilBERT, GPT-2, Llama, Mistral, Qwen 2 and
    3, T5, mT5 and Marian. In a recipe: [bold]student.model.from_teacher[/bold], with the same keys.

    Examples: [bold]hf-distill student make org/bert students/bert-3 --layers spaced:3[/bold] ·
    [bold]hf-distill student make org/marian small --layers first:6 --decoder-layers 1 --ffn 1024[/bold] ·
    [bold]hf-distill student make runs/mrpc/teacher small --layers cka:3 --recipe my.yaml[/bold]
    """
    from hf_distill.cli.describe import show_line
    from hf_distill.cli.quiet import quieten
    from hf_distill.pipeline.making import put_student
    from hf_distill.recipe.recipe import Recipe
    from hf_distill.student_making.cut import StudentCut

    cut = StudentCut(
        layers=_read(layers, "--layers"),
        decoder_layers=_read(decoder_layers, "--decoder-layers"),
        hidden_size=hidden_size,
        num_attention_heads=heads,
        intermediate_size=ffn,
        choose=choose.value,
        examples=examples,
    )
    loaded = None if recipe is None else Recipe.load(recipe, overrides=set_ or [])
    quieten()
    with _bar() as (on_stage, on_batch):
        kept = put_student(teacher, out, cut, recipe=loaded, on_stage=on_stage, on_batch=on_batch)
    show_origin(kept.origin, teacher=kept.teacher, student=out)
    show_line(f"student: {out}" if kept.new else f"{out} holds this student already; nothing was written")


@app.command("describe")
def describe(folder: Annotated[Path, typer.Argument(metavar="STUDENT", help="Folder of a student.")]) -> None:
    """Say who a student was cut out of, and what was kept.

    Example: [bold]hf-distill student describe runs/mrpc/made_student[/bold]
    """
    from hf_distill.cli.describe import show_line
    from hf_distill.student_making.origin import StudentOrigin

    origin = StudentOrigin.load(folder)
    show_origin(origin, student=folder)
    at = "" if origin.revision is None else f"@{origin.revision}"
    show_line(f"teacher: {origin.teacher}{at} ({origin.commit})")


def show_origin(origin: StudentOrigin, *, student: Path, teacher: Path | None = None) -> None:
    """Show a student beside its teacher: parameters, layers, widths, bytes.

    Args:
        origin: The student's.
        student: Its folder.
        teacher: The teacher's folder, where it is at hand.
    """
    from hf_distill.cli.describe import show_line
    from hf_distill.cli.tables import show_table
    from hf_distill.student_making.origin import ranges

    rows = [["parameters", f"{origin.teacher_parameters:,}", f"{origin.parameters:,}"]]
    for name, kept in origin.layers.items():
        stack = "layers" if name == "layers" else f"{name} layers"
        rows.append([stack, str(origin.layers_before[name]), f"{len(kept)}: {ranges(kept)}"])
    rows += [[key.replace("_", " "), str(before), str(now)] for key, (before, now) in origin.widths.items()]
    rows.append(["weights", "–" if teacher is None else _bytes_of(teacher), _bytes_of(student)])
    show_table([origin.architecture, "teacher", "student"], rows)
    chosen = f"; chosen by {origin.data}" if origin.data is not None else ""
    show_line(f"{origin.parameters / origin.teacher_parameters:.0%} of the parameters{chosen}")


def _read(layers: str | None, option: str) -> str | list[int] | None:
    """Return numbers for text that is a list of them, and other text as it is."""
    numbers = (layers or "").strip("[] ")
    if layers is None or not numbers.replace(",", "").replace(" ", "").isdecimal():
        return layers
    parts = numbers.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise ValueError(f"{option}: {layers!r} is no list of layers; write 2,4,6")
    return [int(part) for part in parts]


def _bytes_of(folder: Path) -> str:
    from hf_distill.cli.describe import size_text
    from hf_distill.teachers.weight_files import weight_files

    return size_text(sum(file.stat().st_size for file in weight_files(folder)))


@contextmanager
def _bar() -> Iterator[tuple[Any, Any]]:
    """Show what is done now, with a bar where it has parts."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, transient=True) as bar:
        task = bar.add_task("", total=None)

        def on_stage(what: str, parts: int) -> None:
            bar.reset(task, total=parts or None, description=what)

        yield on_stage, lambda: bar.advance(task)
