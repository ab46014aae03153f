"""Plans made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hf_distill.planning.caching import cache_sizes
from hf_distill.planning.cell_plan import CellPlan
from hf_distill.planning.memory import BatchShape, MemoryLine
from hf_distill.planning.model_size import ModelSize
from hf_distill.planning.model_states import StepSettings
from hf_distill.planning.probe import Probe
from hf_distill.planning.run_plan import RunPlan

GB = 10**9


def size_of(*, multiplied: int = 10**6, outputs: int = 30_000, hidden: int = 64) -> ModelSize:
    return ModelSize(
        parameters=multiplied,
        multiplied=multiplied,
        weight_bytes=4 * multiplied,
        hidden=hidden,
        outputs=outputs,
        layers=2,
        width=hidden,
    )


def cell(label: str = "one_shot", *, read: dict[int, int] | None = None, probe: Probe | None = None) -> CellPlan:
    return CellPlan(
        label=label,
        students=2,
        steps=100,
        teacher_steps=100 if read else 0,
        examples_read=read or {},
        flops=1.0,
        probe=probe,
    )


def run_plan(**changes: Any) -> RunPlan:
    teacher = size_of(multiplied=10**7)
    plan = RunPlan(
        student=size_of(),
        teacher=teacher,
        revisions=3,
        shape=BatchShape(examples=4, tokens=64, positions=64, rows=8),
        causal=False,
        tiled=True,
        settings=StepSettings(half=False),
        joins=True,
        memory=[MemoryLine(name="teacher weights", size=2 * GB, fix="teacher.dtype: bfloat16")],
        device="cpu",
        device_bytes=8 * GB,
        cells=[cell(read={0: 1000})],
        caches=cache_sizes(teacher, 1000),
        readings=3.0,
        revision_bytes=GB,
        checkpoint_bytes=GB,
        free_bytes=10 * GB,
    )
    return replace(plan, **changes)
