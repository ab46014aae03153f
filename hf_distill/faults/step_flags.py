"""Two questions that all ranks answer alike once a step: was a loss not finite, and does a rank want to stop."""

from __future__ import annotations

from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor


class Answer(NamedTuple):
    """What holds on any rank."""

    bad: bool
    stop: bool


class StepFlags:
    """Asked before the backward, answered before the optimizer's step.

    One reduction of two numbers, on the device. Its result is on its way to the CPU during the backward, so that
    reading it makes the CPU wait for the forward only, while the device still has the backward to do.

    Args:
        accelerator: Of the training.
    """

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._flags: Tensor | None = None
        self._copied: torch.cuda.Event | None = None

    def ask(self, bad: Tensor, *, stop: bool) -> None:
        """Say what holds on this rank; every rank has to.

        Args:
            bad: Whether a loss is not finite, on the device. Shapes: ().
            stop: Whether this rank wants to stop after the step.
        """
        flags = torch.stack([bad.float(), torch.full((), float(stop), device=bad.device)])
        if self._accelerator.num_processes > 1:
            flags = self._accelerator.reduce(flags, reduction="sum")
        if flags.device.type == "cuda":
            self._flags = torch.empty(2, pin_memory=True)
            self._flags.copy_(flags, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record()
        else:
            self._flags = flags

    def answer(self) -> Answer:
        """Return what holds on any rank; nothing where nobody has asked since the last time."""
        flags, self._flags = self._flags, None
        if flags is None:
            return Answer(bad=False, stop=False)
        if self._copied is not None:
            self._copied.synchronize()
            self._copied = None
        bad, stop = flags.tolist()
        return Answer(bad=bad > 0, stop=stop > 0)
