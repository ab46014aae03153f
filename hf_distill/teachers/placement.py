"""Where a loaded teacher lies and how it is run: on the device, lent to it or split over ranks; compiled or not."""

from __future__ import annotations

import logging

from accelerate import Accelerator
from torch import nn

from hf_distill.models.compiling import compile_body
from hf_distill.teachers.base import freeze, unwrapped
from hf_distill.teachers.offload import Offload
from hf_distill.teachers.sharding import refuse_sharding, refuse_split_weights, split_over_ranks
from hf_distill.teachers.split_model import SplitModel

logger = logging.getLogger(__name__)

INSIDE = frozenset({"teacher.hidden_states", "teacher.attentions"})
"""What cannot be read of a compiled model."""


class Placement:
    """Freezes a teacher and puts it where it is called.

    Args:
        offload: Keep the weights in CPU memory and bring them to the device for each call. On a CPU they lie there
            anyway.
        compiled: Run the body through torch.compile: True, or the name of a backend.
        sharded: Split the weights over ranks, where the engine splits the student's.
        quantized: The weights are quantised.

    Attributes:
        split: The teacher that was split; None where each rank has it whole.

    Raises:
        ValueError: What is asked for does not go together.
    """

    def __init__(
        self,
        *,
        offload: bool = False,
        compiled: bool | str = False,
        sharded: bool = False,
        quantized: bool = False,
    ) -> None:
        if quantized and (offload or sharded):
            away = "offload" if offload else "sharded"
            raise ValueError(f"quantized weights are small and stay whole on the device; leave `{away}` out")
        if sharded and offload:
            raise ValueError(
                "a sharded teacher's pieces lie where the engine keeps the student's: on the CPU with CPU offload "
                "(fsdp2_offload.yaml, zero3_offload.yaml); leave `offload` out"
            )
        if sharded and compiled:
            raise ValueError(
                "a compiled body leaves out the hooks that put split layers together; leave `sharded` out"
            )
        self.offload = offload
        self.compiled = compiled
        self.sharded = sharded
        self.split: SplitModel | None = None
        self._offload: Offload | None = None
        self._is_compiled = False

    def allowed(self, provides: frozenset[str]) -> frozenset[str]:
        """Return what of all that a source provides can be had of a model that is run like this."""
        return provides - INSIDE if self.compiled else provides

    def place(self, model: nn.Module, accelerator: Accelerator | None) -> nn.Module:
        """Return the model in its wrapper, frozen and on the accelerator's device (None: it stays on the CPU).

        Another training may place it once more.

        Raises:
            ValueError: The model cannot be compiled, or the engine splits models in a way that it cannot follow.
        """
        freeze(model)
        inner = unwrapped(model)
        if not self._is_compiled:
            self._is_compiled = True
            self._compile(inner)
        if self.split is not None:
            return self.split.model
        if accelerator is None:
            return model
        if self.sharded:
            self.split = split_over_ranks(inner, accelerator)
            if self.split is not None:
                return self.split.model
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
