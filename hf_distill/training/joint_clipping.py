"""One norm for a student that DeepSpeed steps inside of its backward and for what is trained beside it.

DeepSpeed clips the student by the student's norm, right before its optimizer steps. A hook in front of that step
knows this norm, and takes away from the student's gradients what the norm of all would have taken away more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-6
"""What DeepSpeed and PyTorch add to a norm before they divide by it."""


class JointClipping:
    """Clips by the norm of all gradients, in front of each step of DeepSpeed's optimizer.

    Args:
        engine: The student in its engine, with ZeRO of any stage.
        gradients: Returns the gradients of what is beside the student, equal on all ranks. They are divided by the
            engine's loss scale and clipped in place.

    Attributes:
        beside: Their norm before, in the last step.
        stepped: Whether the student was stepped since the last `open`: DeepSpeed leaves out what overflows in fp16.
    """

    def __init__(self, engine: Any, gradients: Callable[[], list[Tensor]]) -> None:
        self._engine = engine
        self._gradients = gradients
        self._most: float = engine.gradient_clipping()
        self._scale = 1.0
        self._left = 1.0
        self.beside = 0.0
        self.stepped = False
        self._handle = engine.basic_optimizer.register_step_pre_hook(self._before_step)

    def open(self) -> None:
        """Begin a backward: by the time of the hook, the loss scale is that of the next one."""
        self._scale = self._loss_scale()
        self.stepped = False

    def remove(self) -> None:
        """Leave the optimizer alone."""
        self._handle.remove()

    def _before_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        # ZeRO steps one group of parameters after the other.
        if not self.stepped:
            self.stepped = True
            self._left = self._clip_beside()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(self._left)

    def _clip_beside(self) -> float:
        """Clip what is beside the student; return which share stays of the student's gradients, clipped already."""
        gradients = self._gradients()
        for gradient in gradients:
            gradient.div_(self._scale)
        self.beside = float(torch.nn.utils.get_total_norm(gradients))
        if not self._most:
            return 1.0
        # `get_global_grad_norm` still tells that of the step before.
        student = float(self._engine.optimizer._global_grad_norm)
        of_student, of_all = (max(norm + EPSILON, self._most) for norm in (student, math.hypot(student, self.beside)))
        for gradient in gradients:
            gradient.mul_(self._most / of_all)
        return of_student / of_all

    def _loss_scale(self) -> float:
        return float(self._engine.optimizer.loss_scale) if self._engine.fp16_enabled() else 1.0
