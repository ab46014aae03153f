"""The adaptive weight of intra-distillation (Xu, Koehn and Murray 2022, arXiv 2205.11416)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from hf_distill.schedules.base import SCHEDULES, Schedule


@SCHEDULES.register("intra_ramp")
@dataclass(frozen=True, kw_only=True)
class IntraRamp(Schedule):
    """α′(u) = α·(p·u)^γ up to u = 1/p, then α, with γ = ln α / ln(q/p): 1 at u = 1/q, α from u = 1/p on.

    A power law, as in the authors' code. With α ≤ 1 there is nothing to ramp up to, and α′ = α throughout.

    Raises: ValueError unless α ≥ 0 and 1 ≤ p < q.
    """

    alpha: float = field(metadata={"help": "final weight α"})
    p: float = field(default=2.0, metadata={"help": "α is reached at 1/p of the run"})
    q: float = field(default=5.0, metadata={"help": "the weight passes 1 at 1/q of the run"})

    def __post_init__(self) -> None:
        if self.alpha < 0 or not 1.0 <= self.p < self.q:
            raise ValueError(
                f"intra_ramp needs alpha ≥ 0 and 1 ≤ p < q, got alpha={self.alpha:g}, p={self.p:g}, q={self.q:g}"
            )

    def value(self, progress: float) -> float:
        """Return α′ at `progress`."""
        if self.alpha <= 1.0 or progress >= 1.0 / self.p:
            return self.alpha
        gamma = math.log(self.alpha) / math.log(self.q / self.p)
        return self.alpha * (self.p * progress) ** gamma

    def formula(self) -> str:
        """Return α with its ramp as text."""
        return f"{self.alpha:g}" if self.alpha <= 1.0 else f"0→{self.alpha:g} (p={self.p:g}, q={self.q:g})"
