"""A teacher that is in memory already: one revision, the final one."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.models.compatibility import check_teacher_head
from hf_distill.reading.signals import Head
from hf_distill.teachers.base import TeacherSource, freeze, unwrapped
from hf_distill.teachers.placement import Placement
from hf_distill.teachers.revisions import Revision
from hf_distill.teachers.sharding import is_in_pieces


class LiveTeacher(TeacherSource):
    """A model that you have loaded yourself.

    Args:
        model: The teacher; it is frozen and put into eval mode. It may be quantised, or split by ZeRO-3 already.
        tokenizer: Its tokenizer, to compare with the student's.
        offload: Keep the weights in CPU memory and bring them to the device for each call.
        compiled: Run its body through torch.compile: True, or the name of a backend. Its layers cannot be read then.
        sharded: Split it over ranks where FSDP2 or ZeRO-3 splits the student; elsewhere every rank has it whole.

    Raises:
        ValueError: What is asked for does not go together.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        offload: bool = False,
        compiled: bool | str = False,
        sharded: bool = False,
    ) -> None:
        freeze(model)
        self._model: torch.nn.Module = model
        self._placement = Placement(offload=offload, compiled=compiled, sharded=sharded)
        self.provides = self._placement.allowed(self.provides)
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
            ValueError: The model has another head, or cannot be run as asked for.
        """
        check_teacher_head(head, type(unwrapped(self._model)).__name__, self._config)
        self._model = self._placement.place(self._model, accelerator)

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

    @property
    def is_split(self) -> bool:
        """Whether each rank holds a piece of the model only."""
        return self._placement.split is not None

    def enter(self, index: int) -> float:
        """Do nothing: there is one revision and it is in memory.

        Raises:
            ValueError: Another revision than 0 is asked for.
        """
        if index != 0:
            raise ValueError(f"a live teacher has one revision, number 0; revision {index} was asked for")
        return 0.0


def content_hash(model: torch.nn.Module) -> str:
    """Return the sha256 over names, types, shapes and bytes of all parameters and buffers.

    Of a model that ZeRO-3 has split, all ranks have to ask.
    """
    state = model.state_dict()
    return tensors_hash(_PutTogether(model, state) if is_in_pieces(model) else state)


class _PutTogether(Mapping[str, Tensor]):
    """The tensors of a model that ZeRO-3 has split, whole one at a time."""

    def __init__(self, model: nn.Module, state: Mapping[str, Tensor]) -> None:
        self._state = state
        self._parameters = dict(model.named_parameters(remove_duplicate=False))

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._parameters:
            return self._state[name]
        import deepspeed

        with deepspeed.zero.GatheredParameters([self._parameters[name]]):
            return self._parameters[name].detach().clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 over names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        for plain in plain_tensors(tensor.detach()):
            digest.update(plain.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def plain_tensors(tensor: Tensor) -> list[Tensor]:
    """Return the tensors that a quantised one is made of, or the tensor itself."""
    if not is_traceable_wrapper_subclass(tensor):
        return [tensor]
    names, _ = tensor.__tensor_flatten__()
    return [plain for name in names for plain in plain_tensors(vars(tensor)[name])]
