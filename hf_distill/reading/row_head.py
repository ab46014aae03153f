"""A vocabulary head on the rows that count only; where a model's head cannot be split off, its whole logits."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

from hf_distill.kernels.heads import Head, SplitHead

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class RowHead:
    """A model whose head reads selected rows, as long as the model allows it.

    Args:
        model: A transformers model, as it is or inside wrappers.

    Attributes:
        problem: Why the head cannot be split off; None where it can.
    """

    def __init__(self, model: nn.Module) -> None:
        self.problem: str | None = None
        try:
            self._split = SplitHead(model)
        except ValueError as error:
            self.problem = str(error)

    def read(self, call: Callable[[], Any], at_head: Callable[[Tensor, Head], Answer]) -> Answer | None:
        """Run a forward and return what `at_head` makes of the head's input, or None where the head stays whole.

        Whether the model does something to its logits that is not known shows at the first forward; it is then said
        once, and the caller computes whole logits from that step on.

        Args:
            call: Runs the model, through its wrapper, and returns its output.
            at_head: Gets the hidden states of all positions and the head; it runs inside the forward.
        """
        if self.problem is not None:
            return None
        raised: list[Exception] = []

        def guarded(hidden: Tensor, head: Head) -> Answer:
            try:
                return at_head(hidden, head)
            except Exception as error:
                raised.append(error)
                raise

        try:
            return self._split.read(call, guarded)
        except ValueError as error:
            if raised:
                raise
            self.problem = str(error)
            logger.warning("Logits are computed for all positions: %s", error)
            return None
