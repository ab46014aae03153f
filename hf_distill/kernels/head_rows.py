"""Rows in front of a head: what the last linear layer turns into logits, before it does.

Shape legend: R rows, H width of the hidden states, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class HeadRows:
    """Hidden states and the head that reads them: z = cap(scale · (h Wᵀ + b)) with cap(x) = c · tanh(x / c).

    Shapes: `hidden_RH` (R, H), `weight_VH` (V, H), `bias_V` (V,).

    Attributes:
        hidden_RH: What goes into the linear layer, of the rows that count only.
        weight_VH: Its weight, shared with the embeddings or not.
        bias_V: Its bias, where it has one.
        scale: The multiplier behind it (Cohere's `logit_scale`, Granite's 1 / `logits_scaling`).
        softcap: c of the soft cap behind that (Gemma's `final_logit_softcapping`); None: no cap.

    Raises:
        ValueError: The shapes do not fit together, or the cap is not positive.
    """

    hidden_RH: Tensor
    weight_VH: Tensor
    bias_V: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None

    def __post_init__(self) -> None:
        hidden, weight = tuple(self.hidden_RH.shape), tuple(self.weight_VH.shape)
        if len(hidden) != 2 or len(weight) != 2 or hidden[1] != weight[1]:
            raise ValueError(
                f"hidden states {hidden} do not fit the head's weight {weight}; expected (rows, width) and "
                "(vocabulary, width): select the rows that count before (Rows.of)"
            )
        if self.bias_V is not None and tuple(self.bias_V.shape) != weight[:1]:
            raise ValueError(f"the head's bias has shape {tuple(self.bias_V.shape)}, expected {weight[:1]}")
        if self.softcap is not None and self.softcap <= 0:
            raise ValueError(f"softcap must be positive, got {self.softcap:g}; use None for no cap")

    @property
    def rows(self) -> int:
        """R."""
        return self.hidden_RH.shape[0]

    @property
    def width(self) -> int:
        """V."""
        return self.weight_VH.shape[0]

    def detached(self) -> HeadRows:
        """Return the same rows and head without a graph, as they are now: weights may be changed or moved later."""
        bias_V = None if self.bias_V is None else self.bias_V.detach()
        return replace(self, hidden_RH=self.hidden_RH.detach(), weight_VH=self.weight_VH.detach(), bias_V=bias_V)

    def with_own_head(self) -> HeadRows:
        """Return the rows without a graph, with a copy of the head: an engine takes the weight itself apart again."""
        bias_V = None if self.bias_V is None else self.bias_V.detach().clone()
        return replace(
            self, hidden_RH=self.hidden_RH.detach(), weight_VH=self.weight_VH.detach().clone(), bias_V=bias_V
        )

    def logits(self) -> Tensor:
        """Return all logits at once, with their graph: what the tiles avoid.

        Shapes: returns (R, V).
        """
        logits_RV = F.linear(self.hidden_RH, self.weight_VH, self.bias_V)
        if self.scale != 1.0:
            logits_RV = logits_RV * self.scale
        return logits_RV if self.softcap is None else (logits_RV / self.softcap).tanh() * self.softcap


@dataclass(frozen=True, kw_only=True)
class LogitRows:
    """Logits that exist already, or are unpacked a few rows at a time: the other kind of teacher.

    Attributes:
        rows: R.
        width: V.
        read: Returns rows start to stop as a tensor (stop − start, V) of any floating-point type and device.
    """

    rows: int
    width: int
    read: Callable[[int, int], Tensor]

    @classmethod
    def of(cls, logits_RV: Tensor) -> LogitRows:
        """Wrap logits that are in memory. Shapes: (R, V)."""
        return cls(rows=logits_RV.shape[0], width=logits_RV.shape[1], read=lambda start, stop: logits_RV[start:stop])

    def logits(self) -> Tensor:
        """Return all logits at once. Shapes: returns (R, V)."""
        return self.read(0, self.rows)
