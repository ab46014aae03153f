"""What `hf-distill plan --scaling` shows: the recipe's step on 1 to 1,024 GPUs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hf_distill.planning.model_states import StepSettings
    from hf_distill.planning.run_plan import RunPlan
    from hf_distill.planning.scaling import Layout, Point
    from hf_distill.recipe.recipe import Recipe

ENGINE, MACHINE = "ddp", "h100"
EngineOption = Annotated[str, typer.Option(help="With --scaling: ddp, zero1, zero2, zero3, fsdp2, and with _offload.")]
TeacherOption = Annotated[
    str | None,
    typer.Option(help="With --scaling: replicated, sharded, offloaded or cached.", show_default="as the recipe says"),
]
MachineOption = Annotated[str, typer.Option(help="With --scaling: h100, a100, a100_40 or l4.")]
ConstantOption = Annotated[
    list[str] | None,
    typer.Option(metavar="FIELD=NUMBER", help="With --scaling: change a constant of the machine; may be repeated."),
]
SharedCacheOption = Annotated[
    bool, typer.Option("--shared-cache", help="With --scaling: all nodes have one cache of the Hub.")
]


def refuse_without_scaling(**given: Any) -> None:
    """Refuse options of `--scaling` where it is not asked for: they would change nothing.

    Args:
        **given: The options, by name.

    Raises:
        ValueError: One of them is given.
    """
    usual = {"engine": ENGINE, "machine": MACHINE}
    stray = [name for name, value in given.items() if value and value != usual.get(name)]
    if stray:
        option = stray[0].replace("_", "-")
        raise ValueError(
            f"--{option} is about many GPUs and changes nothing without --scaling; add that, or leave it out"
        )


def layout_of(
    recipe: Recipe, *, engine: str, teacher: str | None, machine: str, constants: Sequence[str], shared_cache: bool
) -> Layout:
    """Return the layout that was asked for.

    Args:
        recipe: Says where its teacher is, unless `teacher` does.
        engine: Name of an engine.
        teacher: Where the teacher is, or None.
        machine: Name of a machine.
        constants: `field=number` of the machine.
        shared_cache: All nodes have one cache of the Hub.

    Raises:
        ValueError: A name or number is wrong, or the engine cannot have such a teacher.
    """
    from hf_distill.planning.engines import engine_named
    from hf_distill.planning.machine import machine_named
    from hf_distill.planning.scaling import Layout
    from hf_distill.planning.work import placement_named

    return Layout(
        engine=engine_named(engine),
        teacher=placement_named(teacher or _placement_of(recipe)),
        machine=machine_named(machine, constants),
        shared_cache=shared_cache,
    )


def _placement_of(recipe: Recipe) -> str:
    spec = recipe.teacher
    if spec is None:
        return "replicated"
    flags = {"cached": bool(spec.cached), "offloaded": spec.offload, "sharded": spec.sharded}
    return next((place for place, said in flags.items() if said), "replicated")


def points_of(found: RunPlan, layout: Layout) -> dict[str, list[Point]]:
    """Return the steps of the same run on more GPUs, and of a batch that grows with them."""
    from hf_distill.planning.scaling import scaled
    from hf_distill.planning.work import work_of

    work = work_of(found)
    return {"same_batch": scaled(work, layout, examples=work.examples), "growing_batch": scaled(work, layout)}


def scaling_data(found: RunPlan, layout: Layout) -> dict[str, Any]:
    """Return the steps as plain data, times in seconds, memory in bytes."""
    from dataclasses import asdict

    from hf_distill.planning.scaling import efficiency

    points = points_of(found, layout)
    return {
        "layout": {**asdict(layout), "engine": layout.engine.name},
        **{
            key: [
                {**asdict(one), "step": one.step, "bound": one.bound, "efficiency": efficiency(one, some[0])}
                for one in some
            ]
            for key, some in points.items()
        },
    }


def show_asked(found: RunPlan, layout: Layout, *, as_json: bool) -> None:
    """Show the steps as tables, or print them as plain data."""
    if as_json:
        typer.echo(json.dumps(scaling_data(found, layout), indent=2))
    else:
        show_scaling(found, layout)


def show_scaling(found: RunPlan, layout: Layout) -> None:
    """Show what a step takes on more and more GPUs, and what it waits for most."""
    from hf_distill.cli.describe import show_line
    from hf_distill.cli.tables import show_table
    from hf_distill.planning.scaling_rows import step_rows
    from hf_distill.planning.work import work_of

    machine, points = layout.machine, points_of(found, layout)
    same, growing = points["same_batch"], points["growing_batch"]
    show_line(f"{layout.engine.file}, teacher {layout.teacher}; formulas, no measurement")
    show_line(f"on {machine.name}")
    if layout.teacher == "offloaded":
        show_line(copies_text(work_of(found).settings))
    show_line(f"\nthe same run, {same[0].examples:,} examples a step, on as many GPUs as divide them:")
    show_table(*step_rows(same, memory=machine.memory_bytes))
    show_line(f"\neach GPU with {growing[0].micro_batch} × {growing[0].accumulation} examples, the batch grows:")
    show_table(*step_rows(growing, memory=machine.memory_bytes))
    show_line("\nformulas and constants: recipes/accelerate/README.md\n--constant FIELD=NUMBER changes one")


def copies_text(settings: StepSettings) -> str:
    """Return how often the weights of a teacher that is lent to the GPU are copied."""
    calls = "one a micro-batch"
    if settings.window:
        calls = "one a step" if settings.window_examples is None else f"one for {settings.window_examples} examples"
    return f"the teacher's weights are copied to the GPU for each of its calls: {calls}"
