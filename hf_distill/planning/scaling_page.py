"""The tables of recipes/accelerate/README.md, made from the formulas, block by block."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace

from hf_distill.planning.choice import Choice, choose
from hf_distill.planning.engines import ENGINES
from hf_distill.planning.machine import MACHINES, SOURCES, Machine, machine_named
from hf_distill.planning.pairs import CHOSEN, PAIRS, Pair
from hf_distill.planning.scaling import Layout, scaled
from hf_distill.planning.scaling_rows import Rows, compared_rows, layout_rows, step_rows
from hf_distill.planning.work import Placement, Work, with_batch
from hf_distill.report.tables import to_markdown

END = "<!-- end -->"
SLOW = "between=12.5e9"
"""One adapter of 100 Gbit/s a node, for the comparison."""
SHOWN = (1, 8, 16, 64, 256, 1024)
FEW = (8, 64)
WAYS: tuple[tuple[str, Placement], ...] = (
    ("ddp", "replicated"),
    ("ddp", "offloaded"),
    ("ddp", "cached"),
    ("zero1", "replicated"),
    ("zero2", "replicated"),
    ("zero3", "replicated"),
    ("zero3", "sharded"),
    ("fsdp2", "replicated"),
    ("fsdp2", "sharded"),
    ("fsdp2", "cached"),
)
"""Engines and teachers side by side."""
GPU_MEMORY = ("l4", "a100_40", "h100")
"""Machines with 24, 40 and 80 GB."""


def pair_table(pair: Pair, layout: Layout) -> str:
    """Return the step of a pair on 1 to 1,024 GPUs."""
    points = scaled(pair.work(), layout, examples=pair.examples)
    spread = f"{layout.engine.file}, teacher {layout.teacher}; {layout.machine.name}"
    title = f"**{pair.title}**; {pair.examples:,} examples a step on however many GPUs; {spread}."
    return f"{title}\n\n{_markdown(step_rows(points, memory=layout.machine.memory_bytes))}"


def circumstances_table(pair: Pair) -> str:
    """Return step, efficiency and bound of a pair where one thing is otherwise than in its first table."""
    work, usual = pair.work(), Layout()
    alone = with_batch(work, examples=work.shape.examples, accumulation=1)
    columns = {
        "one cache of the Hub for all nodes": scaled(work, replace(usual, shared_cache=True), examples=pair.examples),
        "100 Gbit/s between nodes": scaled(
            work, replace(usual, machine=machine_named("h100", [SLOW])), examples=pair.examples
        ),
        "cached targets": scaled(work, replace(usual, teacher="cached"), examples=pair.examples),
        f"{work.shape.examples} examples on each GPU, the batch grows": scaled(alone, usual),
    }
    return f"The same with one thing otherwise: step, efficiency, bound.\n\n{_markdown(compared_rows(columns, SHOWN))}"


def layouts_table(pair: Pair) -> str:
    """Return memory and step of a pair under each engine and with each place of the teacher."""
    work = pair.work()
    points = {
        f"{name}, {teacher}": scaled(
            work, Layout(engine=ENGINES[name], teacher=teacher), examples=pair.examples, gpus=FEW
        )
        for name, teacher in WAYS
    }
    return f"**{pair.title}**; a GPU's memory and a step.\n\n{_markdown(layout_rows(points, FEW))}"


def choice_table(gpus: int, *, examples: int = 256) -> str:
    """Return the fastest launch configuration that fits, by models and memory of a GPU."""
    heads = [f"student ← teacher, {gpus} GPU{'s' if gpus > 1 else ''}"]
    heads += [f"{MACHINES[name].memory_bytes / 1e9:.0f} GB ({name.split('_')[0].upper()})" for name in GPU_MEMORY]
    rows = []
    for pair in CHOSEN.values():
        work = pair.work()
        found = [_chosen(work, MACHINES[name], gpus, examples) for name in GPU_MEMORY]
        rows.append([pair.title.partition(",")[0], *found])
    return to_markdown(heads, rows, left=len(heads))


def _chosen(work: Work, machine: Machine, gpus: int, examples: int) -> str:
    """Return what to take; where only cached targets leave room enough, that."""
    found: Choice | None = choose(work, machine, gpus, examples=examples)
    found = found or choose(work, machine, gpus, examples=examples, cached=True)
    return "more GPUs" if found is None else found.text()


def constants_table(machine: Machine = MACHINES["h100"]) -> str:
    """Return the constants of a machine with their sources."""
    rows = [
        [field.name, f"{vars(machine)[field.name]:.6g}", field.metadata["help"], SOURCES[field.name]]
        for field in fields(Machine)
        if field.name in SOURCES
    ]
    return to_markdown(["constant", machine.name, "what", "source"], rows, left=4)


def _markdown(table: Rows) -> str:
    return to_markdown(table.heads, table.rows)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "bert": lambda: f"{pair_table(PAIRS['bert'], Layout())}\n{circumstances_table(PAIRS['bert'])}",
    "qwen": lambda: f"{pair_table(PAIRS['qwen'], Layout())}\n{circumstances_table(PAIRS['qwen'])}",
    "layouts": lambda: layouts_table(PAIRS["qwen"]),
    "choice": lambda: f"{choice_table(1)}\n{choice_table(8)}",
    "constants": constants_table,
}
"""What stands on the page between `<!-- scaling: NAME -->` and `<!-- end -->`."""


def written(page: str) -> str:
    """Return a page with its blocks written anew.

    Raises:
        ValueError: A block has no end.
    """
    for name, make in BLOCKS.items():
        mark = f"<!-- scaling: {name} -->"
        if mark not in page:
            continue
        before, _, rest = page.partition(mark)
        _, end, after = rest.partition(END)
        if not end:
            raise ValueError(f"the page has `{mark}` without `{END}` behind it")
        page = f"{before}{mark}\n\n{make().strip()}\n\n{END}{after}"
    return page
