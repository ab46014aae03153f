"""Predict steps of a small BERT on one and two processes from this machine's own constants, measure them, and compare.

The constants are measured first: the rate of matrix products of the same shapes, of copies in memory, of all_reduce.
Then the formulas of `hf_distill/planning` tell a step, and the bare loops of `benchmark_ddp_overhead.py` and
`benchmark_step_overhead.py` take it, `--batch-size` examples a process. On a CPU what is sent takes the cores that
compute, so nothing is hidden behind the backward. `utilisation` is 1 at first: what is no matrix product (norms,
softmax, dropout) is not in it. Set to what makes the step of one process right, it predicts the step of two.

    OMP_NUM_THREADS=1 torchrun --nproc_per_node 2 scripts/scaling_check.py --steps 6 --rounds 3
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.distributed as dist
from accelerate import PartialState
from benchmark_ddp_overhead import VOCABULARY, ddp_steps
from benchmark_step_overhead import bare_steps, batches, bert
from side_by_side import figures_parser

from hf_distill.atomic import atomic_write_json
from hf_distill.planning.arithmetic import forward_flops, train_flops
from hf_distill.planning.engines import Engine
from hf_distill.planning.machine import Machine
from hf_distill.planning.memory import BatchShape
from hf_distill.planning.model_size import model_size
from hf_distill.planning.model_states import StepSettings
from hf_distill.planning.scaling import Layout, point_of
from hf_distill.planning.work import Work

LENGTH, STUDENT, TEACHER = 128, (4, 256), (6, 384)
WAITING = Engine(name="ddp", overlaps=False)
LARGE, SMALL, COPIED = 25 * 2**18, 1, 2**24  # numbers of 4 bytes


def seconds_of(work: Callable[[], object], *, times: int) -> float:
    """Return the median seconds of a call, after one that does not count."""
    taken = []
    for _ in range(times + 1):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def product_rate(size: int, rows: int) -> float:
    """Return operations a second of a step's matrix products: three of a shape in the student, one in the teacher."""
    operations = seconds = 0.0
    for (layers, width), passes in ((STUDENT, 3), (TEACHER, 1)):
        for many, tall, deep, wide in (
            (4 * layers, size * LENGTH, width, width),
            (2 * layers, size * LENGTH, width, 4 * width),
            (1, rows, width, VOCABULARY),
        ):
            left, right = torch.randn(tall, deep), torch.randn(deep, wide)
            seconds += passes * many * seconds_of(lambda a=left, b=right: a @ b, times=3)
            operations += passes * many * 2.0 * tall * deep * wide
    return operations / seconds


def machines_here(size: int, rows: int) -> tuple[Machine, Machine]:
    """Return this machine's constants: for one process while the others wait, and for all of them at a time."""
    source, target = torch.ones(COPIED), torch.empty(COPIED)
    large, small = torch.ones(LARGE), torch.ones(SMALL)
    layer = bert(*STUDENT, 1000).eval()

    def rates() -> dict[str, float]:
        copied = seconds_of(lambda: target.copy_(source), times=5)
        return {"flops": product_rate(size, rows), "memory_bandwidth": 2 * 4 * COPIED / copied}

    alone = rates() if PartialState().is_main_process else {}
    dist.barrier()
    together = rates()
    dist.barrier()
    short = seconds_of(lambda: dist.all_reduce(small), times=20)
    long = seconds_of(lambda: dist.all_reduce(large), times=5)
    with torch.no_grad():
        launch = seconds_of(lambda: layer(torch.ones(1, 1, dtype=torch.long)), times=10) / STUDENT[0]
    shared = Machine(
        name="this machine",
        memory_bytes=1,
        inside=4 * LARGE / max(long - short, 1e-9),
        between=1.0,
        host=1.0,
        per_node=dist.get_world_size(),
        utilisation=1.0,
        reached=1.0,
        launch_seconds=launch,
        inside_latency=short / 2,
        **together,
    )
    return replace(shared, **alone), shared


def measured(data: list[dict[str, torch.Tensor]], size: int) -> tuple[float, float]:
    """Return the seconds of a step of the first process alone, and of all together."""
    state, teacher = PartialState(), bert(*TEACHER, VOCABULARY).eval().requires_grad_(False)
    alone = 0.0
    if state.is_main_process:
        mine = data[: len(data) // state.num_processes]
        alone = bare_steps(bert(*STUDENT, VOCABULARY), teacher, mine, size)
    dist.barrier()
    return alone, ddp_steps(bert(*STUDENT, VOCABULARY), teacher, data, size, counted=False)


def main() -> None:
    """Run the check; the first process prints it."""
    options = figures_parser(__doc__, steps=6, rounds=3, batch_size=8).parse_args()
    state, size = PartialState(cpu=True), options.batch_size
    assert state.num_processes > 1, "start with torchrun --nproc_per_node 2"
    data = batches(options.steps, size * state.num_processes, LENGTH, VOCABULARY)
    rows = round(sum(int((row["labels"] != -100).sum()) for row in data) / len(data) * size)
    shape = BatchShape(examples=size, tokens=size * LENGTH, positions=size * LENGTH, rows=rows)
    sizes = [model_size(bert(*sizes, VOCABULARY)) for sizes in (STUDENT, TEACHER)]
    work = Work(student=sizes[0], teacher=sizes[1], shape=shape, settings=StepSettings(half=False))
    found = []
    for number in range(options.rounds):
        machines = machines_here(size, rows)
        alone, together = measured(data, size)
        if state.is_main_process:
            found.append(compared(work, machines, alone, together))
            print(f"round {number + 1}: " + ", ".join(f"{key} {value:.4g}" for key, value in found[-1].items()))
    if state.is_main_process:
        for key in found[0]:
            values = [one[key] for one in found]
            print(f"{key:>40}: {statistics.median(values):.4g} ({min(values):.4g} – {max(values):.4g})")
        if options.output is not None:
            atomic_write_json(options.output, {"rounds": found, "steps": options.steps, "batch_size": size})
    state.destroy_process_group()


def compared(work: Work, machines: tuple[Machine, Machine], alone: float, together: float) -> dict[str, float]:
    """Return what was predicted and measured, in milliseconds, and measured ÷ predicted."""
    one, all_of_them = machines
    processes = all_of_them.per_node
    first = point_of(work, Layout(engine=WAITING, machine=one), 1)
    second = point_of(work, Layout(engine=WAITING, machine=all_of_them), processes)
    products = (train_flops(work.student, work.shape) + forward_flops(work.teacher, work.shape)) / one.flops
    utilisation = products / (alone - first.step + products)
    fitted = replace(all_of_them, utilisation=utilisation)
    again = point_of(work, Layout(engine=WAITING, machine=fitted), processes)
    return {
        "GFLOP/s of one": one.flops / 1e9,
        "GFLOP/s of each": all_of_them.flops / 1e9,
        "memory GB/s": all_of_them.memory_bandwidth / 1e9,
        "all_reduce GB/s": all_of_them.inside / 1e9,
        "1 process: predicted ms": 1000 * first.step,
        "1 process: measured ms": 1000 * alone,
        "1 process: measured ÷ predicted": alone / first.step,
        f"{processes} processes: predicted ms": 1000 * second.step,
        f"{processes} processes: of which sending ms": 1000 * second.interconnect,
        f"{processes} processes: measured ms": 1000 * together,
        f"{processes} processes: measured ÷ predicted": together / second.step,
        "utilisation by 1 process": utilisation,
        f"{processes} processes: predicted with it ms": 1000 * again.step,
        f"{processes} processes: measured ÷ predicted with it": together / again.step,
    }


if __name__ == "__main__":
    main()
