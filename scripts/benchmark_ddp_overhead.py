"""Step time of ProgressiveDistillTrainer on several processes against a bare DistributedDataParallel loop.

The work is that of `benchmark_step_overhead.py` (BERT-mini, heads on labelled rows), each process with `--batch-size`
examples of a step. The bare loop divides each process's loss by its own labelled rows; "counted" adds them up over
the processes first, as the trainer does, so that the update is that of one process. All run in turns.

    OMP_NUM_THREADS=1 torchrun --nproc_per_node 2 scripts/benchmark_ddp_overhead.py --steps 20 --rounds 3
"""

from __future__ import annotations

import statistics
import tempfile
import time
from typing import Any

import torch
from accelerate import PartialState
from benchmark_step_overhead import LONGEST_GRADIENT, batches, bert, fused_adamw, labelled_rows, trainer_steps
from side_by_side import figures_parser, own_device, wait_for
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hf_distill.atomic import atomic_write_json

VOCABULARY = 30522


class WithLoss(nn.Module):
    """A student whose forward is the loss, so that DistributedDataParallel sees it; the teacher is no part of it."""

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student = student
        self._teacher = [teacher]

    def forward(self, batch: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        """Return the mean divergence of the labelled rows."""
        return labelled_rows(self.student, self._teacher[0], batch, rows)


def ddp_steps(student, teacher, data: list[dict[str, torch.Tensor]], size: int, *, counted: bool) -> float:
    """A loop without a trainer, each process with its share of a step; return the mean seconds of one."""
    state, device = PartialState(), own_device()
    model = DistributedDataParallel(WithLoss(student.to(device), teacher.to(device)))
    optimizer = fused_adamw(student)
    model.train()
    began = time.perf_counter()
    for start in range(0, len(data), size * state.num_processes):
        mine = start + size * state.process_index
        rows = data[mine : mine + size]
        batch = {key: torch.stack([row[key] for row in rows]).to(device) for key in data[0]}
        labelled = batch.pop("labels") != -100
        loss = model(batch, labelled)
        if counted:
            count = labelled.sum()
            total = count.clone()
            torch.distributed.all_reduce(total)
            loss = loss * count * state.num_processes / total
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), LONGEST_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
    wait_for(device)
    return (time.perf_counter() - began) * size * state.num_processes / len(data)


def main() -> None:
    """Run the benchmark; the first process prints its figures."""
    options = figures_parser(__doc__, steps=20, rounds=3, batch_size=8).parse_args()
    state, size = PartialState(cpu=not torch.cuda.is_available()), options.batch_size
    assert state.num_processes > 1, "start with torchrun --nproc_per_node 2"
    teacher = bert(6, 384, VOCABULARY).eval().requires_grad_(False)
    data = batches(options.steps, size * state.num_processes, 128, VOCABULARY)

    def student() -> nn.Module:
        torch.manual_seed(1)
        return bert(4, 256, VOCABULARY)

    figures: dict[str, list[float]] = {"bare": [], "counted": [], "trainer": []}
    for _ in range(options.rounds):
        for name in ("bare", "counted"):
            figures[name].append(ddp_steps(student(), teacher, data, size, counted=name == "counted"))
        with tempfile.TemporaryDirectory() as folder:
            more = {"max_steps": options.steps, "use_cpu": state.device.type == "cpu"}
            figures["trainer"].append(trainer_steps(student(), teacher, data, size, folder, **more))
    result: dict[str, Any] = {"processes": state.num_processes, "device": str(state.device), **vars(options)}
    if state.is_main_process:
        print(f"{'':>8}  {'ms a step':>9}  trainer ÷ this (median, min – max)")
        for name, seconds in figures.items():
            ratios = [ours / theirs for ours, theirs in zip(figures["trainer"], seconds, strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} – {max(ratios):.2f})"
            print(f"{name:>8}  {1000 * statistics.median(seconds):9.1f}  {spread}")
        if options.output is not None:
            atomic_write_json(options.output, {**result, "output": None, "seconds": figures})
    state.destroy_process_group()


if __name__ == "__main__":
    main()
