"""How tests ask for an engine on CPU processes, and what a student that it has wrapped or split holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import DistributedType, PartialState
from builders import distill_config
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from hf_distill import ProgressiveDistillConfig, ProgressiveDistillTrainer

ENGINES = ("alone", "ddp", "fsdp2", "zero1", "zero2", "zero3")
FSDP2 = {"version": 2, "auto_wrap_policy": "TRANSFORMER_BASED_WRAP"}
SMALL_BUCKET = 10_000


def engine_arguments(engine: str) -> dict[str, Any]:
    """Return the training arguments that ask for an engine."""
    if engine == "fsdp2":
        return {"fsdp": True, "fsdp_config": FSDP2}
    if engine.startswith("zero"):
        return {"deepspeed": zero_settings(int(engine[-1]))}
    return {}


def zero_settings(stage: int) -> dict[str, Any]:
    """Return DeepSpeed's settings of a stage for models of some thousand parameters: nothing is too small to split."""
    zero = {
        "stage": stage,
        "reduce_bucket_size": SMALL_BUCKET,
        "stage3_prefetch_bucket_size": SMALL_BUCKET,
        "stage3_param_persistence_threshold": 0,
        "stage3_gather_16bit_weights_on_model_save": True,
    }
    sizes = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
    return {"zero_optimization": zero, "zero_force_ds_cpu_optimizer": False, **dict.fromkeys(sizes, "auto")}


def engine_config(engine: str, folder: Path, **overrides: Any) -> ProgressiveDistillConfig:
    """Make the arguments of a run of an engine; the next trainer that is made has to be its."""
    args = distill_config(folder, **{**engine_arguments(engine), **overrides})
    if engine == "fsdp2":
        # accelerate follows FSDP's plugin on devices that are no CPUs only, though PyTorch's FSDP2 runs on gloo too.
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    return args


def assert_engine(trainer: ProgressiveDistillTrainer, engine: str) -> None:
    """Check that a trained student was run by the engine that was asked for, on as many processes."""
    wrapped, accelerator = trainer.model_wrapped, trainer.accelerator
    assert accelerator.num_processes == (1 if engine == "alone" else 2)
    if engine == "fsdp2":
        assert isinstance(wrapped, FSDPModule)
        assert all(isinstance(parameter, DTensor) for parameter in wrapped.parameters())
        assert sum(isinstance(module, FSDPModule) for module in wrapped.modules()) > 2, "split layer by layer"
    elif engine.startswith("zero"):
        assert type(wrapped).__name__ == "DeepSpeedEngine"
        assert wrapped.zero_optimization_stage() == int(engine[-1])
        assert wrapped.dp_world_size == 2
    else:
        assert isinstance(wrapped, DistributedDataParallel) == (engine == "ddp")


@contextmanager
def whole(parameters: Sequence[nn.Parameter]) -> Iterator[list[Tensor]]:
    """Give parameters whole, wherever their parts are."""
    if any("ds_id" in vars(parameter) for parameter in parameters):
        import deepspeed

        with deepspeed.zero.GatheredParameters(list(parameters)):
            yield [parameter.detach() for parameter in parameters]
    else:
        yield [
            parameter.full_tensor().detach() if isinstance(parameter, DTensor) else parameter.detach()
            for parameter in parameters
        ]


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a student's weights by name, whole, on every rank."""
    named = dict(model.named_parameters())
    with whole(list(named.values())) as values:
        return {
            name.removeprefix("module.").replace("decoder.bias", "bias"): value.clone().double()
            for name, value in zip(named, values, strict=True)
        }


def share_held(model: nn.Module) -> float:
    """Return which share of a model's numbers lies on this rank while nobody calls it."""
    held = whole = 0
    for parameter in model.parameters():
        split = vars(parameter).get("ds_tensor")
        part = parameter.to_local() if isinstance(parameter, DTensor) else parameter if split is None else split
        # What ZeRO-3 has put together is there beside its own part.
        held += part.numel() + (parameter.numel() if split is not None else 0)
        whole += vars(parameter).get("ds_numel", parameter.numel())
    return held / whole
