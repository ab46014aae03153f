"""What the views that mix two examples share: how much of each, and who goes with whom."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Beta

ALPHA_HELP = "the share λ of the example itself is drawn from Beta(alpha, alpha)"
ALONE = (
    "a micro-batch of one example has no other one to be mixed with; raise per_device_train_batch_size (and lower "
    "gradient_accumulation_steps)"
)


def check_alpha(alpha: float, *, view: str) -> None:
    """Refuse an impossible Beta distribution.

    Raises:
        ValueError: `alpha` is not positive.
    """
    if alpha <= 0:
        raise ValueError(f"{view}: `alpha` must be positive, got {alpha:g}; 1 draws every share equally often")


def draw_share(alpha: float) -> float:
    """Draw λ from Beta(alpha, alpha)."""
    return float(Beta(alpha, alpha).sample())


def draw_partners(examples: int) -> Tensor:
    """Draw for each example another one of the micro-batch: its rows turned round by a number drawn.

    Released code permutes the rows, so that on average one example a micro-batch is its own partner; as batches come
    shuffled, turning them is the same without those. A micro-batch of one example has itself.

    Shapes: (B,), int64, on the CPU.
    """
    turn = int(torch.randint(1, max(examples, 2), ()))
    return (torch.arange(examples) + turn) % examples
