"""Where a loaded teacher lies and how it is run: on the device or lent to it call by call, compiled or not."""

from __future__ import annotations

import logging

from accelerate import Accelerator
from torch import nn

from hf_distill.models.compiling import compile_body
from hf_distill.teachers.base import freeze, unwrapped
from hf_distill.teachers.offload import Offload
from hf_distill.teachers.sharding import refuse_sharding, refuse_split_weights

logger = logging.getLogger(__name__)

INSIDE = frozenset({"teacher.hidden_states", "teacher.attentions"})
"""What cannot be read of a compiled model."""


class Placement:
    """Freezes a teacher and puts it where it is called.

    Args:
        offload: Keep the weights in CPU memory and bring them to the device for each call. On a CPU they lie there
            anyway.
        compiled: Run the body through torch.compile: True, or the name of a backend.
    """

    def __init__(self, *, offload: bool = False, compiled: bool | str = False) -> None:
        self.offload = offload
        self.compiled = compiled
        self._offload: Offload | None = None
        self._is_compiled = False

    def allowed(self, provides: frozenset[str]) -> frozenset[str]:
        """Return what of all that a source provides can be had of a model that is run like this."""
        return provides - INSIDE if self.compiled else provides

    def place(self, model: nn.Module, accelerator: Accelerator | None) -> nn.Module:
        """Return the model in its wrapper, frozen and on the accelerator's device (None: it stays on the CPU).

        Another training may place it once more.

        Raises:
            ValueError: The model cannot be compiled, or an engine splits models over ranks where weights are lent.
        """
        freeze(model)
        inner = unwrapped(model)
        if not self._is_compiled:
            self._is_compiled = True
            self._compile(inner)
        if accelerator is None:
            return model
        refuse_split_weights(inner)
        if not self.offload:
            # Said outright: under FSDP accelerate would leave the model where it is.
            return accelerator.prepare_model(model, device_placement=True, evaluation_mode=True)
        refuse_sharding(accelerator, "its weights are lent to the device for each call")
        if accelerator.device.type == "cpu":
            logger.info("offload: training runs on the CPU, where the teacher's weights lie anyway")
            return accelerator.prepare_model(model, evaluation_mode=True)
        prepared = accelerator.prepare_model(model, device_placement=False, evaluation_mode=True)
        if self._offload is None:
            self._offload = Offload(inner, accelerator.device)
        return prepared

    def renew(self, model: nn.Module) -> None:
        """Freeze and compile the parts that have taken the places of a placed model's own."""
        freeze(model)
        self._compile(model)

    def settle(self) -> None:
        """Wait until the weights may be changed."""
        if self._offload is not None:
            self._offload.settle()

    def _compile(self, model: nn.Module) -> None:
        if self.compiled:
            compile_body(model, **({"backend": self.compiled} if isinstance(self.compiled, str) else {}))
