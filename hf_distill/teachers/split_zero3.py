"""A teacher split by DeepSpeed's ZeRO-3: what a module needs is put together for its forward, and let go behind it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from hf_distill.teachers.pieces import Piece, buffer_pieces, by_name, names_by_tensor
from hf_distill.teachers.split_model import SplitModel

KEPT = (
    "offload_param",
    "overlap_comm",
    "stage3_prefetch_bucket_size",
    "stage3_param_persistence_threshold",
    "stage3_max_live_parameters",
    "stage3_max_reuse_distance",
    "stage3_module_granularity_threshold",
)
"""What of the student's settings of ZeRO says where weights lie and when they are put together."""


class SplitByZero3(SplitModel):
    """A teacher in a DeepSpeed engine of its own, without an optimizer.

    Args:
        model: On the CPU, whole on all ranks; it is frozen. Rank 0's weights are taken.
        accelerator: Of the training.

    Raises:
        ValueError: Weights are kept on disks, where they cannot be changed.
    """

    def __init__(self, model: nn.Module, accelerator: Accelerator) -> None:
        import deepspeed

        settings = teacher_settings(accelerator.state.deepspeed_plugin.deepspeed_config)
        self._named = names_by_tensor(model)
        buffers = buffer_pieces(model)
        self._engine, *_ = deepspeed.initialize(model=model, config=settings)
        for module in self._engine.modules():
            # The engine's own `eval` leaves the engine in training, for whoever puts a model's mode back.
            module.training = False
        self.model = self._engine
        self.pieces = by_name([*(_piece(parameter, names) for parameter, names in self._named), *buffers])

    def memory(self) -> dict[str, Tensor]:
        """Let go of small weights, which stay whole between forwards, and return where this rank's pieces lie."""
        self._engine.empty_partition_cache()
        found = dict(self._engine.module.named_buffers())
        for parameter, names in self._named:
            piece = self.pieces[min(names)]
            # Behind the last rank's numbers there may be padding.
            held = vars(parameter)["ds_tensor"].detach().narrow(0, 0, piece.stop - piece.start)
            found |= dict.fromkeys(names, held)
        return found


def teacher_settings(student: Mapping[str, Any]) -> dict[str, Any]:
    """Return DeepSpeed's settings of the teacher: the student's, as far as they concern weights that do not change.

    What the Trainer has not set yet ("auto") is left to DeepSpeed. The number format is the teacher's own.

    Raises:
        ValueError: Weights are kept on disks.
    """
    zero = student["zero_optimization"]
    kept = {key: zero[key] for key in KEPT if zero.get(key) not in (None, "auto")}
    offload = kept.get("offload_param", {})
    if offload.get("device") == "nvme":
        raise ValueError(
            "a sharded teacher's weights are changed in place, which those that DeepSpeed keeps on disks "
            "(offload_param: nvme) cannot be; use offload_param: cpu, or leave `sharded` out"
        )
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": 3, **kept},
    }


def _piece(parameter: Tensor, names: frozenset[str]) -> Piece:
    split = vars(parameter)
    size, numbers = split["ds_tensor"].ds_numel, split["ds_numel"]
    start = min(size * split["ds_zero_partition_rank"], numbers)
    return Piece(names, tuple(split["ds_shape"]), start, min(start + size, numbers))
