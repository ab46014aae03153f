"""Layers to compare that tests of the objectives on hidden states and attentions share: unequal lengths, padding."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from hf_distill.objectives import OBJECTIVES
from hf_distill.reading.layer_states import AttentionRows, LayerStates
from hf_distill.reading.signals import Signals

LENGTHS = (5, 3, 1, 4)
TOKENS, EXAMPLES, POSITIONS = sum(LENGTHS), len(LENGTHS), max(LENGTHS)
HEADS = 2


def attended(lengths: tuple[int, ...] = LENGTHS) -> Tensor:
    """The attention mask, right-padded."""
    return (torch.arange(POSITIONS) < torch.tensor(lengths)[:, None]).long()


def states(width: int, *, seed: int = 0, dtype: torch.dtype = torch.float64, scale: float = 1.5) -> Tensor:
    """One layer's hidden states, padding included."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(EXAMPLES, POSITIONS, width, generator=generator, dtype=torch.float64)
    return (scale * drawn).to(dtype)


def attentions(heads: int = HEADS, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """One layer's attention probabilities: 0 at keys that are padding, something at queries that are."""
    generator = torch.Generator().manual_seed(seed)
    drawn = 2.0 * torch.randn(EXAMPLES, heads, POSITIONS, POSITIONS, generator=generator, dtype=torch.float64)
    return drawn.masked_fill(attended()[:, None, None] == 0, -torch.inf).softmax(-1).to(dtype)


def reads_attentions(name: str) -> bool:
    """Whether an objective compares attentions and not states."""
    return "student.attentions" in OBJECTIVES.get(name).needs


def layer_pair(name: str, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """What a student and a teacher layer say, of what an objective compares."""
    make = attentions if reads_attentions(name) else lambda **how: states(6, **how)
    return make(seed=2 * seed + 1, dtype=dtype), make(seed=2 * seed + 2, dtype=dtype)


def signals_of(name: str, student: Tensor, teacher: Tensor, mask: Tensor | None = None) -> Signals:
    """What an objective gets to see of one pair of layers."""
    mask = attended() if mask is None else mask
    if reads_attentions(name):
        return Signals(attentions=(AttentionRows.of(student, teacher, mask),))
    return Signals(layers=(LayerStates.of(student, teacher, mask),))


def values_of(name: str, student: Tensor, teacher: Tensor, mask: Tensor | None = None, **fields: object) -> Tensor:
    """The unreduced values of an objective built from its fields."""
    objective = OBJECTIVES.build({"name": name, **fields}, path="objective")
    return objective.values(signals_of(name, student, teacher, mask), temperature=1.0)


def positions() -> Iterator[tuple[int, int]]:
    """(example, position) of every attended token, in the order of values."""
    return ((example, position) for example, length in enumerate(LENGTHS) for position in range(length))


def pooled(layer: Tensor) -> np.ndarray:
    """Each example's mean over its attended positions, in numpy."""
    return np.stack([layer.numpy()[example, :length].mean(0) for example, length in enumerate(LENGTHS)])
