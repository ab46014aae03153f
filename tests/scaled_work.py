"""Steps to spread over GPUs, made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hf_distill.planning.memory import BatchShape
from hf_distill.planning.model_size import ModelSize
from hf_distill.planning.model_states import StepSettings
from hf_distill.planning.work import Work

BILLION = 10**9


def size(parameters: int, *, weight_bytes: int = 4, layers: int = 10) -> ModelSize:
    """A model without embeddings, a tenth of it the head."""
    return ModelSize(
        parameters=parameters,
        multiplied=parameters,
        weight_bytes=weight_bytes * parameters,
        hidden=1000,
        outputs=parameters // 10_000,
        layers=layers,
        width=1000,
    )


def work(*, accumulation: int = 1, checkpointing: bool = False, **changes: Any) -> Work:
    """A billion parameters that learn from seven, 8 × 1,000 positions of which 2,000 count."""
    made = Work(
        student=size(BILLION),
        teacher=size(7 * BILLION, weight_bytes=2),
        shape=BatchShape(examples=8, tokens=8000, positions=8000, rows=2000),
        settings=StepSettings(accumulation=accumulation, checkpointing=checkpointing),
        causal=True,
        revision_steps=1000,
    )
    return replace(made, **changes)
