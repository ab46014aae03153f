"""Arithmetic of a forward and of a training step, in floating-point operations.

Shape legend: B examples, T positions, R rows that count.
"""

from __future__ import annotations

from hf_distill.planning.memory import BatchShape
from hf_distill.planning.model_size import ModelSize

BACKWARD = 2
"""Forwards' worth of arithmetic in a backward: gradients of inputs and of weights."""


def forward_flops(size: ModelSize, shape: BatchShape, *, causal: bool = False) -> float:
    """Return the operations of a forward over a micro-batch.

    Two a multiplied parameter and position, padding included; the head counts for its rows only. The two products of
    attention are 4·T a layer, position and unit of width, half of that under a causal mask (Chowdhery et al. 2022,
    arXiv 2204.02311, appendix B).

    Args:
        size: Of the model.
        shape: Of the micro-batch.
        causal: Positions look back only.
    """
    length = shape.positions / shape.examples
    attention = 4 * length * size.layers * size.width * (0.5 if causal else 1.0)
    return shape.positions * (2 * size.body + attention) + shape.rows * 2 * size.head


def train_flops(size: ModelSize, shape: BatchShape, *, causal: bool = False) -> float:
    """Return the operations of a forward and a backward over a micro-batch."""
    return (1 + BACKWARD) * forward_flops(size, shape, causal=causal)
