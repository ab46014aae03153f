"""A batch whose loss or gradient is not finite: training stops, or goes on without it; it is never trained on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import DistributedType
from accelerate.utils import gather_object
from torch import Tensor
from torch.distributed.tensor import DTensor

from hf_distill.config import OnBadBatch
from hf_distill.faults.bad_examples import describe
from hf_distill.reading.signal_reader import Student

if TYPE_CHECKING:
    from hf_distill.faults.guarded_training import GuardedTraining

logger = logging.getLogger(__name__)

MOST_SKIPPED = 10
"""So many steps in a row are not bad luck with examples: the student has diverged."""


class BadBatch(ValueError):
    """Training stopped at a batch whose loss or gradient is not finite; nothing was trained on it."""


class _Seen(NamedTuple):
    """A micro-batch of the current step."""

    student: Student
    inputs: Mapping[str, Any]
    loss: Tensor


class BatchGuard:
    """Looks at the losses and the gradient of each step.

    Args:
        trainer: Whose steps they are.
        on_bad_batch: What happens at a step that is not finite.

    Attributes:
        skipped: Steps left out so far, in this session.
    """

    def __init__(self, trainer: GuardedTraining, on_bad_batch: OnBadBatch) -> None:
        self.skipped = 0
        self._trainer = trainer
        self._mode = on_bad_batch
        self._seen: list[_Seen] = []
        self._norm: Tensor | None = None
        self._late: tuple[int, Tensor] | None = None
        self._in_a_row = 0

    def open(self) -> None:
        """Begin a step."""
        self._seen = []

    def see(self, student: Student, inputs: Mapping[str, Any], loss: Tensor) -> Tensor:
        """Take note of a micro-batch's loss, and return it for the backward."""
        self._seen.append(_Seen(student, inputs, loss.detach()))
        if self._trainer.accelerator.scaler is None:
            return loss
        # A scaler leaves out steps whose gradient is not finite: that of a loss which is not finite never is.
        finite = torch.isfinite(loss.detach())
        return loss * torch.where(finite, torch.ones_like(loss.detach()), torch.full_like(loss.detach(), torch.nan))

    def bad_so_far(self) -> Tensor:
        """Return whether a loss of the step is not finite on this rank. Shapes: ()."""
        return ~torch.isfinite(torch.stack([one.loss for one in self._seen])).all()

    def see_norm(self, norm: Tensor | float | None) -> None:
        """Take note of the norm of the step's gradient, which is the same on all ranks."""
        # The first steps of whatever scales losses are not finite by design; it leaves them out itself.
        if norm is not None and not self._scales_losses():
            whole = norm.full_tensor() if isinstance(norm, DTensor) else torch.as_tensor(norm)
            self._norm = whole.detach()

    def _scales_losses(self) -> bool:
        trainer = self._trainer
        if trainer.accelerator.distributed_type == DistributedType.DEEPSPEED:
            return trainer.model_wrapped.fp16_enabled()
        return trainer.accelerator.scaler is not None

    def judge(self, bad: bool) -> None:
        """Decide before the optimizer's step whether it is taken.

        A loss that is not finite is known now. On a GPU, waiting for the gradient's norm would make the device wait
        in turn: with `stop` it is looked at one step later, and before anything is saved or evaluated.

        Args:
            bad: Whether a loss of any rank is not finite.

        Raises:
            BadBatch: The step is not finite and `on_bad_batch` is `stop`, or many steps in a row are not.
        """
        self.check_late()
        norm, self._norm = self._norm, None
        if not bad and norm is not None:
            if self._trainer.accelerator.distributed_type == DistributedType.DEEPSPEED:
                # It has taken the step inside of the backward.
                self._late = (self._trainer.state.global_step, norm)
                self.check_late()
            elif norm.device.type == "cpu" or self._mode == "skip":
                bad = not bool(torch.isfinite(norm))
            else:
                self._late = (self._trainer.state.global_step, norm)
        if bad:
            self._refuse()
        else:
            self._in_a_row = 0

    def check_late(self) -> None:
        """Look at a gradient's norm that has not been looked at.

        Raises:
            BadBatch: It is not finite, and the step was taken.
        """
        late, self._late = self._late, None
        if late is not None and not bool(torch.isfinite(late[1])):
            raise BadBatch(
                f"the gradient of step {late[0]} is not finite, though its losses are, and the student was stepped "
                "with it. Nothing has been saved since: go on from the newest checkpoint with on_bad_batch: skip, or "
                "with a lower learning rate"
            )

    def _refuse(self) -> None:
        trainer = self._trainer
        text = f"step {trainer.state.global_step}: {self._describe()}"
        if self._mode == "stop":
            raise BadBatch(
                f"{text}. Nothing was trained on it. Repair or leave out such examples, lower the learning rate if "
                "the student diverges, or leave out such steps with on_bad_batch: skip"
            )
        self.skipped += 1
        self._in_a_row += 1
        if self._in_a_row >= MOST_SKIPPED:
            raise BadBatch(
                f"{text}. It is the {MOST_SKIPPED}th step in a row that is not finite, so it is not the examples; go "
                "on from the newest checkpoint with a lower learning rate, or in a number format with more range"
            )
        logger.warning("%s. The step is left out (on_bad_batch: skip)", text)
        if trainer.accelerator.scaler is None:
            # Without a gradient no optimizer moves a weight, or its own state.
            for parameter in [*trainer.model.parameters(), *trainer.readout_parameters()]:
                parameter.grad = None

    def _describe(self) -> str:
        """Return what all ranks know of their bad micro-batches; all of them have to call it."""
        own = [
            describe(self._trainer, one.student, one.inputs, micro_batch, float(one.loss))
            for micro_batch, one in enumerate(self._seen)
            if not bool(torch.isfinite(one.loss))
        ]
        found = gather_object(own) if self._trainer.accelerator.num_processes > 1 else own
        return " | ".join(found) or "the gradient is not finite, though all losses are"


def refuse_skipping(on_bad_batch: OnBadBatch, engine: DistributedType) -> None:
    """Refuse to leave out steps under an engine that takes them inside of the backward.

    Raises:
        ValueError: `skip` under DeepSpeed.
    """
    if on_bad_batch == "skip" and engine == DistributedType.DEEPSPEED:
        raise ValueError(
            "on_bad_batch: skip needs a step that can be left out, but DeepSpeed takes it inside of the backward; use "
            "on_bad_batch: stop, or FSDP2 instead of DeepSpeed"
        )
