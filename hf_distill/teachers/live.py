"""A teacher that is in memory already: one revision, the final one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.compatibility import check_teacher_head
from hf_distill.signals import Head
from hf_distill.teachers.base import TeacherSource, freeze, unwrapped
from hf_distill.teachers.revisions import Revision


class LiveTeacher(TeacherSource):
    """A model that you have loaded yourself.

    Args:
        model: The teacher; it is frozen and put into eval mode.
        tokenizer: Its tokenizer, to compare with the student's.
    """

    def __init__(self, model: PreTrainedModel, *, tokenizer: PreTrainedTokenizerBase | None = None) -> None:
        freeze(model)
        self._model: torch.nn.Module = model
        self._config = model.config
        self._tokenizer = tokenizer
        name = model.config.name_or_path or type(model).__name__
        commit = f"sha256:{content_hash(model)}"
        self.revisions = [Revision(name="final", step=None, source=name, revision=None, commit=commit, folder=None)]

    def attach_student(self, student: nn.Module) -> None:
        """Compare the student with the model.

        Raises:
            ValueError: They are one object, so that freezing the teacher has frozen the student.
        """
        if unwrapped(self._model) in student.modules():
            raise ValueError(
                "student and teacher are one object, and freezing the teacher would freeze the student; pass a copy "
                "(copy.deepcopy) as the teacher"
            )

    def attach(self, *, head: Head, accelerator: Accelerator | None) -> None:
        """Place the model on the accelerator's device.

        Raises:
            ValueError: The model has another head.
        """
        check_teacher_head(head, type(unwrapped(self._model)).__name__, self._config)
        if accelerator is not None:
            self._model = accelerator.prepare_model(self._model, evaluation_mode=True)

    @property
    def config(self) -> PreTrainedConfig:
        """The model's configuration."""
        return self._config

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer given at construction."""
        return self._tokenizer

    @property
    def model(self) -> torch.nn.Module:
        """The frozen model."""
        return self._model

    def enter(self, index: int) -> float:
        """Do nothing: there is one revision and it is in memory.

        Raises:
            ValueError: Another revision than 0 is asked for.
        """
        if index != 0:
            raise ValueError(f"a live teacher has one revision, number 0; revision {index} was asked for")
        return 0.0


def content_hash(model: torch.nn.Module) -> str:
    """Return the sha256 over names, types, shapes and bytes of all parameters and buffers."""
    return tensors_hash(model.state_dict())


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
