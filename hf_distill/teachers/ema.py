"""The student's own moving average as its teacher (mean teacher)."""

from __future__ import annotations

import copy
import inspect
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from hf_distill.atomic import atomic_write_bytes
from hf_distill.models.checkpointed_module import CheckpointedModule
from hf_distill.models.compatibility import unwrap_peft
from hf_distill.reading.signals import Head
from hf_distill.teachers.base import TeacherSource, freeze
from hf_distill.teachers.composed import composed
from hf_distill.teachers.sharding import refuse_sharding

HALVES = (torch.float16, torch.bfloat16)
UPDATES = "hf_distill.updates"
"""Of the number of updates among the tensors of the file."""


class EmaTeacher(TeacherSource):
    """An exponential moving average of the student's weights: θ' ← d·θ' + (1 − d)·θ after every optimizer step.

    Tarvainen and Valpola 2017 (mean teacher, arXiv 1703.01780). It begins with the student's weights when a training
    begins, and follows it in eval mode; buffers (running statistics) are copied, not averaged. It is kept in
    checkpoints, so that a resumed run is the same run, and it is never exported with the student: after training
    `trainer.teacher.model` is the average, to save where it is the better model. For a student in bfloat16 or float16
    the average is held in float32, where small steps do not vanish.

    What the student learns from its own average alone drifts; mix it with labels (`label_mix`).

    Args:
        decay: d, from 0 (the student of the step before) to below 1.
        warmup: Use min(d, (1 + t) / (10 + t)) after t steps, so that the average forgets the first weights soon.

    Raises:
        ValueError: A decay out of range.
    """

    kind = "ema"

    def __init__(self, decay: float = 0.999, *, warmup: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay: expected a number from 0 to below 1, got {decay:g}")
        self.decay, self.warmup = decay, warmup
        text = f"moving average of the student, decay {decay:g}{' with warm-up' if warmup else ''}"
        self.revisions = [composed("ema", text, {"decay": decay, "warmup": warmup}, [])]
        self._student: nn.Module | None = None
        self._average: Average | None = None
        self._placed: nn.Module | None = None

    @property
    def state(self) -> CheckpointedModule | None:  # type: ignore[override]
        """The average and the number of its updates."""
        return self._average

    def attach_student(self, student: nn.Module) -> None:
        """Take a copy of the student."""
        self._student, self._average, self._placed = student, Average(student), None
        # What was read off the average of an earlier student.
        for cached in ("forward_arguments", "_row_head"):
            vars(self).pop(cached, None)

    def attach(self, *, head: Head, accelerator: Accelerator | None) -> None:
        """Place the average on the device.

        Raises:
            ValueError: The student is not known, or is split over ranks.
        """
        refuse_sharding(accelerator, "every rank averages the weights it has")
        self._placed = self._of_student().model
        if accelerator is not None:
            self._placed = accelerator.prepare_model(self._placed, evaluation_mode=True)

    @property
    def config(self) -> PreTrainedConfig:
        """The student's configuration."""
        return unwrap_peft(self._of_student().model).config

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """None: it is the student's, whatever that is."""
        return None

    @cached_property
    def forward_arguments(self) -> frozenset[str]:
        """The names that the student's forward accepts."""
        return frozenset(inspect.signature(unwrap_peft(self._of_student().model).forward).parameters)

    @property
    def model(self) -> nn.Module:
        """The average."""
        return self._placed if self._placed is not None else self._of_student().model

    def enter(self, index: int) -> float:
        """Do nothing: there is one revision, and it is in memory.

        Raises:
            ValueError: Another revision than 0 is asked for.
        """
        if index != 0:
            raise ValueError(f"a moving average has one revision, number 0; revision {index} was asked for")
        return 0.0

    def restart(self) -> None:
        """Begin with the student as it is now."""
        assert self._student is not None
        self._of_student().restart(self._student)

    def decay_at(self, updates: int) -> float:
        """Return the decay of the update that comes after `updates` of them."""
        return min(self.decay, (1 + updates) / (10 + updates)) if self.warmup else self.decay

    def student_stepped(self) -> None:
        """Move the average towards the student."""
        assert self._student is not None
        average = self._of_student()
        average.follow(self._student, decay=self.decay_at(average.updates))

    def _of_student(self) -> Average:
        if self._average is None:
            raise ValueError(
                "an EmaTeacher is made of the student: give it to the trainer as its teacher, not to another source"
            )
        return self._average


class Average(CheckpointedModule):
    """A frozen copy of a model that follows it.

    Args:
        model: The model, without the wrappers of data parallelism.
    """

    file_name: ClassVar[str] = "ema_teacher.safetensors"
    what: ClassVar[str] = "moving average of the student"

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        if any(parameter.dtype in HALVES for parameter in self.model.parameters()):
            self.model.float()
        freeze(self.model)
        self.model.zero_grad(set_to_none=True)
        self.updates = 0

    def restart(self, model: nn.Module) -> None:
        """Copy the model as it is now."""
        self.follow(model, decay=0.0)
        self.updates = 0

    @torch.no_grad()
    def follow(self, model: nn.Module, *, decay: float) -> None:
        """Average the weights with those of the model, and copy its buffers."""
        for ours, theirs in zip(self.model.parameters(), model.parameters(), strict=True):
            if decay == 0.0 or not ours.is_floating_point():
                ours.copy_(theirs)
            else:
                ours.lerp_(theirs.to(ours.device, ours.dtype), 1.0 - decay)
        for kept, current in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(current)
        self.updates += 1

    def _tensors(self) -> dict[str, Tensor]:
        # Each tensor once: tied weights are one parameter.
        return {**dict(self.model.named_parameters()), **dict(self.model.named_buffers())}

    def save(self, folder: str | Path) -> None:
        """Write average and number of updates into a checkpoint, atomically."""
        tensors = {name: tensor.detach().contiguous() for name, tensor in self._tensors().items()}
        data = save({**tensors, UPDATES: torch.tensor(self.updates)})
        atomic_write_bytes(Path(folder) / self.file_name, data)

    @torch.no_grad()
    def load(self, folder: str | Path) -> None:
        """Read average and number of updates from a checkpoint.

        Raises:
            ValueError: The checkpoint has none, or those of another model.
        """
        path = Path(folder) / self.file_name
        if not path.exists():
            raise ValueError(f"{folder} has no {self.file_name}: its run had no {self.what}; resume another")
        stored, ours = load_file(path), self._tensors()
        updates = stored.pop(UPDATES, None)
        shapes = [{name: tensor.shape for name, tensor in side.items()} for side in (stored, ours)]
        if updates is None or shapes[0] != shapes[1]:
            raise ValueError(f"{path} belongs to another student; resume another run, or start a new one")
        for name, tensor in ours.items():
            tensor.copy_(stored[name])
        self.updates = int(updates)
