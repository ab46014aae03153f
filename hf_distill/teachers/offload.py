"""A teacher whose weights lie in CPU memory and come to the device for each call."""

from __future__ import annotations

from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import Tensor, nn
from transformers import PreTrainedModel


class Offload:
    """Lends a model's weights to a device while it is called.

    The weights in CPU memory (pinned where the device is a GPU) stay what the parameters are between calls, so that
    new ones can be copied into them; the copies on the device are dropped after each call, and nothing is copied back.
    accelerate's `cpu_offload_with_hook` would copy them back, and would keep them after a forward that ends early.

    What a call hands out keeps the copy that it needs (rows in front of the head keep the head).

    Args:
        model: On the CPU; frozen.
        device: Where it is called.

    Attributes:
        lending: Whether a call is under way.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.device = device
        self.lending = False
        self._copied: torch.cuda.Event | None = None
        self._pin(model)
        _hook(model, _Lent(self, _tensors(model)))
        embeddings = model.get_input_embeddings() if isinstance(model, PreTrainedModel) else None
        if embeddings is not None:
            # They are looked up outside of a forward where embeddings are mixed.
            _hook(embeddings, _Lent(self, _tensors(embeddings)))

    def settle(self) -> None:
        """Wait until no copy of the weights is under way, so that they may be changed."""
        if self._copied is not None:
            self._copied.synchronize()

    def to_device(self, tensors: list[Tensor]) -> list[Tensor]:
        """Return copies on the device."""
        # A copy on a CPU too, where only tests call it: weights that are lent are never those that are kept.
        copies = [tensor.detach().to(self.device, non_blocking=True, copy=True) for tensor in tensors]
        if self.device.type == "cuda":
            self._copied = torch.cuda.Event()
            self._copied.record()
        return copies

    def _pin(self, model: nn.Module) -> None:
        if self.device.type == "cuda":
            for tensor in _tensors(model):
                tensor.data = tensor.data.pin_memory()


class _Lent:
    """Some weights, and the copies that stand in their place during a call."""

    def __init__(self, offload: Offload, tensors: list[Tensor]) -> None:
        self._offload = offload
        self._tensors = tensors
        self._kept: list[Tensor] = []

    def lend(self, _: nn.Module, inputs: Any, named: Any) -> Any:
        """Put copies on the device in the place of the weights, unless a call further out has done so.

        What the call is given goes to the device too, as accelerate's hooks do it.
        """
        if self._offload.lending:
            return None
        self._offload.lending = True
        self._kept = [tensor.data for tensor in self._tensors]
        for tensor, copy in zip(self._tensors, self._offload.to_device(self._kept), strict=True):
            tensor.data = copy
        return send_to_device((inputs, named), self._offload.device)

    def take_back(self, *_: Any) -> None:
        """Put the weights back in their place, where this call has lent them."""
        if not self._kept:
            return
        for tensor, kept in zip(self._tensors, self._kept, strict=True):
            tensor.data = kept
        self._kept, self._offload.lending = [], False


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _hook(module: nn.Module, lent: _Lent) -> None:
    module.register_forward_pre_hook(lent.lend, prepend=True, with_kwargs=True)
    module.register_forward_hook(lent.take_back, always_call=True)
