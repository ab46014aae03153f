"""An optimizer of its own for what is trained beside a student that an engine splits over ranks.

DeepSpeed and FSDP rebuild the student's optimizer over its split parameters; what is no part of the student has no
place in it. Its optimizer is of the same class, with the same settings and learning rate, whole on every rank.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from hf_distill.atomic import atomic_write_bytes

FILE_NAME = "beside_optimizer.pt"


class BesideOptimizer:
    """Steps parameters beside the student; their gradients must be equal on all ranks.

    Args:
        groups: Parameters, each with its learning rate ÷ the student's.
        kind: The class of the student's optimizer.
        settings: Its arguments.

    Raises:
        ValueError: The optimizer is made for one model's parameters and cannot be made for others.
    """

    def __init__(
        self,
        groups: Sequence[tuple[list[nn.Parameter], float]],
        kind: type[torch.optim.Optimizer],
        settings: Mapping[str, Any],
    ) -> None:
        bound = sorted({"params", "model", "optimizer_dict"} & set(settings))
        if bound or not isinstance(kind, type) or not issubclass(kind, torch.optim.Optimizer):
            raise ValueError(
                f"read-outs and projectors cannot be trained with {kind}, which is made for the student's parameters "
                "only; choose a usual `optim` such as adamw_torch, or `readout: false` and `projector: none`"
            )
        self._rates = [rate for _, rate in groups]
        made = [{"params": parameters, "weight_decay": 0.0} for parameters, _ in groups]
        self._optimizer = kind(made, **settings)

    def step(self, learning_rate: float) -> None:
        """Take a step with the student's learning rate of now."""
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = learning_rate * rate
        self._optimizer.step()

    def forget(self) -> None:
        """Forget moments and step counts."""
        self._optimizer.state.clear()

    def save(self, folder: str | Path) -> None:
        """Write the state into a checkpoint, atomically."""
        buffer = io.BytesIO()
        torch.save(self._optimizer.state_dict(), buffer)
        atomic_write_bytes(Path(folder) / FILE_NAME, buffer.getvalue())

    def load(self, folder: str | Path) -> None:
        """Read the state from a checkpoint.

        Raises:
            ValueError: The checkpoint has none.
        """
        path = Path(folder) / FILE_NAME
        if not path.exists():
            raise ValueError(
                f"{folder} has no {FILE_NAME}: its run trained without an engine that splits the student; resume it "
                "with the launch configuration that it was started with"
            )
        self._optimizer.load_state_dict(torch.load(path, weights_only=True))


def clip_together(split: Sequence[nn.Parameter], beside: Sequence[nn.Parameter], most: float) -> Tensor:
    """Clip gradients that are split over ranks and gradients that are whole on each by the norm of all.

    Args:
        split: Parameters that FSDP has split.
        beside: Others.
        most: The norm to clip to.

    Returns:
        The norm before.
    """
    norms = []
    for parameters in (split, beside):
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        norms.append(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    total = torch.linalg.vector_norm(torch.stack(norms))
    for parameters in (split, beside):
        torch.nn.utils.clip_grads_with_norm_(parameters, most, total)
    return total
