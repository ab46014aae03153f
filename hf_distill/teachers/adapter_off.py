"""A PEFT student with its adapter switched off as its teacher: the model that it was before."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from accelerate import Accelerator
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from hf_distill.reading.model_reading import Reading
from hf_distill.reading.signals import Head
from hf_distill.teachers.base import TeacherSource
from hf_distill.teachers.live import tensors_hash
from hf_distill.teachers.revisions import Revision
from hf_distill.teachers.sharding import refuse_sharding


class AdapterOffTeacher(TeacherSource):
    """The student's base model: no second model in memory, one more forward of the student without its adapter.

    During the teacher's forward the adapter is off and every module in eval mode; afterwards modes and what is trained
    are exactly as before, so that dropout, random numbers and gradients of the student do not notice. The base weights
    must not be trained themselves (`bias: none`, no full fine-tuning beside the adapter): the teacher would move.
    """

    kind = "adapter_off"

    # Not "teacher.embeddings": called by itself, `model` is the student.
    provides = frozenset({"teacher.logits", "teacher.hidden_states", "teacher.attentions", "teacher.live"})

    def __init__(self) -> None:
        self.revisions = [_revision("")]
        self._student: PeftModel | None = None

    def attach_student(self, student: nn.Module) -> None:
        """Take the student, and pin its base weights.

        Raises:
            ValueError: It has no adapter, or trains base weights.
        """
        if not isinstance(student, PeftModel):
            raise ValueError(
                f"the student is a {type(student).__name__} without an adapter to switch off; wrap it with "
                "peft.get_peft_model, or use an EmaTeacher"
            )
        self._student = student
        trained = {name for name, parameter in student.named_parameters() if parameter.requires_grad}
        with self._switched_off():
            inside = student.get_base_model().named_parameters()
            moving = [name for name, parameter in inside if parameter.requires_grad]
        if moving:
            raise ValueError(
                f"weights of the student's base model are trained beside its adapter ({', '.join(moving[:3])}"
                f"{', …' if len(moving) > 3 else ''}), so that the teacher would move; train the adapter only "
                '(bias="none")'
            )
        base = {name: tensor for name, tensor in student.state_dict().items() if name not in trained}
        self.revisions = [_revision(f"sha256:{tensors_hash(base)}")]
        vars(self).pop("forward_arguments", None)

    def attach(self, *, head: Head, accelerator: Accelerator | None) -> None:
        """Do nothing: the trainer places the student.

        Raises:
            ValueError: The student is not known, or is split over ranks.
        """
        refuse_sharding(accelerator, "the student is called outside its engine")
        self._known()

    @property
    def config(self) -> PreTrainedConfig:
        """The student's configuration."""
        return self._known().get_base_model().config

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """None: it is the student's, whatever that is."""
        return None

    @cached_property
    def forward_arguments(self) -> frozenset[str]:
        """The names that the student's forward accepts."""
        return frozenset(inspect.signature(self._known().get_base_model().forward).parameters)

    @property
    def model(self) -> nn.Module:
        """The student itself. Called from outside it answers with its adapter; ask `logits` for the teacher."""
        return self._known()

    def enter(self, index: int) -> float:
        """Do nothing: there is one revision, and it is in memory.

        Raises:
            ValueError: Another revision than 0 is asked for.
        """
        if index != 0:
            raise ValueError(f"a student's base model has one revision, number 0; revision {index} was asked for")
        return 0.0

    def logits(self, inputs: Mapping[str, Any]) -> Tensor:
        """Return the base model's logits, without gradient."""
        with self._switched_off():
            return super().logits(inputs)

    def hidden_states(self, inputs: Mapping[str, Any], layers: Sequence[int]) -> dict[int, Tensor]:
        """Return the base model's outputs of some layers, without gradient."""
        with self._switched_off():
            return super().hidden_states(inputs, layers)

    def read(self, inputs: Mapping[str, Any], *, layers: tuple[int, ...], attentions: bool) -> Reading:
        """Return the base model's logits, outputs of some layers and attentions, without gradient."""
        with self._switched_off():
            return super().read(inputs, layers=layers, attentions=attentions)

    @contextmanager
    def _switched_off(self) -> Iterator[None]:
        student = self._known()
        modes = [(module, module.training) for module in student.modules()]
        trained = [(parameter, parameter.requires_grad) for parameter in student.parameters()]
        student.eval()
        try:
            with student.disable_adapter():
                yield
        finally:
            # Switching the adapter on again makes all of it trainable, and `train()` would wake frozen norms.
            for parameter, requires_grad in trained:
                if parameter.requires_grad != requires_grad:
                    parameter.requires_grad_(requires_grad)
            for module, training in modes:
                module.training = training

    def _known(self) -> PeftModel:
        if self._student is None:
            raise ValueError(
                "an AdapterOffTeacher is made of the student: give it to the trainer as its teacher, not to another "
                "source"
            )
        return self._student


def _revision(commit: str) -> Revision:
    text = "the student without its adapter"
    return Revision(name="adapter_off", step=None, source=text, revision=None, commit=commit)
