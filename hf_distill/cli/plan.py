"""`hf-distill plan`: what a recipe will need, before anything is spent on it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from hf_distill.cli.scaling import (
    ENGINE,
    MACHINE,
    ConstantOption,
    EngineOption,
    MachineOption,
    SharedCacheOption,
    TeacherOption,
    layout_of,
    refuse_without_scaling,
    show_asked,
)

if TYPE_CHECKING:
    from hf_distill.planning.run_plan import RunPlan


def plan(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a recipe that comes with hf_distill.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Change a key; may be repeated.")
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Take a few steps to know how long one takes here.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print plain data instead of tables.")] = False,
    scaling: Annotated[
        bool, typer.Option("--scaling", help="Tell what a step takes on 1 to 1,024 GPUs, by formulas.")
    ] = False,
    engine: EngineOption = ENGINE,
    teacher: TeacherOption = None,
    machine: MachineOption = MACHINE,
    constant: ConstantOption = None,
    shared_cache: SharedCacheOption = False,
) -> None:
    """Tell what a recipe will need: parameters, memory, arithmetic, time, disk, and whether cached targets pay.

    No teacher weights are downloaded: random ones of the same size stand in. A run that cannot work on this machine
    is refused, and the message names what to change (exit code 2).

    Examples: [bold]hf-distill plan parity/quickstart[/bold] ·
    [bold]hf-distill plan my.yaml --set training.per_device_train_batch_size=64[/bold] ·
    [bold]hf-distill plan my.yaml --no-probe --json[/bold] ·
    [bold]hf-distill plan my.yaml --scaling --engine fsdp2 --teacher sharded --constant between=12.5e9[/bold]
    """
    from hf_distill.cli.quiet import quieten
    from hf_distill.planning.advice import advise, check_possible
    from hf_distill.planning.run_plan import plan_recipe
    from hf_distill.recipe.recipe import Recipe

    if not scaling:
        refuse_without_scaling(
            engine=engine, teacher=teacher, machine=machine, constant=constant, shared_cache=shared_cache
        )
    loaded = Recipe.load(recipe, overrides=set_ or [])
    quieten()
    if scaling:
        constants, cache = constant or [], shared_cache
        layout = layout_of(
            loaded, engine=engine, teacher=teacher, machine=machine, constants=constants, shared_cache=cache
        )
        show_asked(plan_recipe(loaded, probe=False), layout, as_json=as_json)
        return
    found = plan_recipe(loaded, probe=probe)
    if as_json:
        typer.echo(json.dumps({**found.to_dict(), "advice": advise(found)._asdict()}, indent=2))
    else:
        show_plan(found)
    check_possible(found)


def show_plan(found: RunPlan) -> None:
    """Show a plan as tables, the advice in the last line."""
    from hf_distill.cli.describe import show_line
    from hf_distill.planning.advice import advise

    for show in (_show_models, _show_memory, _show_cells, _show_caches):
        show(found)
        show_line("")
    advice = advise(found)
    show_line(f"targets: {advice.source} – {advice.reason}")


def _show_models(found: RunPlan) -> None:
    from hf_distill.cli.describe import show_line, size_text
    from hf_distill.cli.tables import show_table

    sizes = [("student", found.student)] + ([("teacher", found.teacher)] if found.teacher is not None else [])
    rows = [
        [name, f"{size.parameters:,}", f"{size.multiplied:,}", size_text(size.weight_bytes), f"{size.outputs:,}"]
        for name, size in sizes
    ]
    show_table(["model", "parameters", "multiplied", "weights", "outputs"], rows)
    shape = found.shape
    show_line(f"a micro-batch: {shape.examples} examples, {shape.tokens:,} tokens, {shape.rows:,} rows in the loss")


def _show_memory(found: RunPlan) -> None:
    from hf_distill.cli.describe import size_text
    from hf_distill.cli.tables import show_table
    from hf_distill.planning.memory import total

    rows = [[line.name, size_text(line.size)] for line in found.memory]
    there = f"together, of {size_text(found.device_bytes)} on the {found.device}"
    show_table(["memory of a step, estimated", "bytes"], [*rows, [there, size_text(total(found.memory))]])


def _show_cells(found: RunPlan) -> None:
    from hf_distill.cli.describe import show_line
    from hf_distill.cli.tables import show_table

    rows = []
    for cell in found.cells:
        row = [cell.label, str(cell.students), f"{cell.steps:,}", f"{cell.teacher_steps:,}", f"{cell.flops:.2g}"]
        if cell.probe is None or cell.seconds is None:
            row += ["–", "–", "–"]
        else:
            step = f"{1000 * cell.probe.step_seconds:.3g} ms"
            row += [step, f"{cell.probe.teacher_share:.0%}", duration_text(cell.seconds)]
        rows.append(row)
    heads = ["curriculum", "students", "steps", "with teacher", "FLOP of one", "step", "teacher", "time of all"]
    show_table(heads, rows)
    known = [cell.seconds for cell in found.cells if cell.seconds is not None]
    if known:
        show_line(f"training of all students, evaluations left out: about {duration_text(sum(known))}")


def _show_caches(found: RunPlan) -> None:
    from hf_distill.cli.describe import number, show_line, size_text
    from hf_distill.cli.tables import show_table
    from hf_distill.planning.advice import teacher_share

    if found.caches:
        rows = [
            [cache.codec, size_text(cache.size), f"{cache.bytes_per_row:g}", "yes" if cache.exact else "no"]
            for cache in found.caches
        ]
        show_table(["cached targets", "size", "bytes a row", "exact"], rows)
        readings = number(found.readings)
        show_line(f"each would be read {readings} times; the teacher takes {teacher_share(found):.0%} of a step")
    revisions = "1 revision" if found.revisions == 1 else f"{found.revisions} revisions"
    show_line(
        f"disk: {size_text(found.revision_bytes)} for {revisions}, {size_text(found.checkpoint_bytes)} for the "
        f"students' checkpoints; {size_text(found.free_bytes)} free"
    )


def duration_text(seconds: float) -> str:
    """Return a time for people: two of hours, minutes and seconds."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
